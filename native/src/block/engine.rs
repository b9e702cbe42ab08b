//! The block engine without its JavaScript objects: its files and tables, and the jobs in flight.

use std::collections::VecDeque;
use std::os::fd::RawFd;
use std::sync::Arc;

use libc::iovec;
use rustix::io::Errno;

use super::event::Event;
use super::file::File;
use super::job::{Job, Operation};
use super::mapping::Mapping;
use super::pool::Pool;
use super::table::{DoneList, Row, Table};
use super::uring::Uring;
use crate::bytes::Bytes;
use crate::counters::Token;
use crate::errors::{CLOSED, Failure, Result, failure, out_of_range};

/// Most vectors of a job: the kernel's own limit, `IOV_MAX`.
const VECTORS: u32 = 1024;
/// Most bytes of a job: the kernel's limit for one read or write call.
const BYTES: u64 = 0x7fff_f000;
/// 2^53: positions and lengths stay below it, because JavaScript counts exactly up to there.
const POSITIONS: f64 = 9_007_199_254_740_992.0;

/// Number of `submit` calls after which deferred jobs start, including the call that deferred the
/// first one. `submit` defers jobs that wait for a disk, so that a thread is woken once for several
/// calls. The limit bounds how long the deferred jobs wait while the jobs of further calls complete
/// within their call.
const HELD_CALLS: u32 = 4;

/// Most tables. Table numbers have 16 bits, and so have job numbers within a table: together they
/// fit into 32 bits.
const TABLES: usize = 1 << 16;

/// A table and its jobs.
struct Queue {
    table: Arc<Table>,
    slots: Vec<Slot>,
    in_flight: u32,
    /// Whether the table was removed. It is freed when its last job in flight completes.
    removed: bool,
}

/// State of one of a table's jobs.
#[derive(Default)]
struct Slot {
    job: Job,
    /// Whether the job is in flight, or in the batch that `submit` is checking.
    busy: bool,
}

/// A disk image that jobs may name by its number.
pub enum Image {
    /// A file or a block device.
    File(File),
    /// Memory of this process.
    Memory(Arc<Mapping>),
}

/// The state behind the JavaScript class `BlockEngine`. End it by `settle`: an engine with jobs in
/// flight must not be dropped.
pub struct Engine {
    memory: Bytes,
    event: Arc<Event>,
    uring: Option<Uring>,
    pool: Pool,
    files: Vec<Option<Image>>,
    queues: Vec<Option<Queue>>,
    in_flight: u32,
    closed: bool,
    /// Numbers of the jobs in the batch that `submit` is working on.
    batch: Vec<u32>,
    for_pool: Vec<Job>,
    /// Number of `submit` calls since the first deferred job; 0 if no job is deferred.
    held_calls: u32,
    /// Numbers of completed jobs that aren't on the done list yet.
    finished: VecDeque<u32>,
    done: Arc<DoneList>,
}

impl Engine {
    /// Makes an engine with no files and no tables.
    pub fn new(
        memory: Bytes,
        done: Arc<DoneList>,
        event: Arc<Event>,
        uring: Option<Uring>,
    ) -> Self {
        Self {
            memory,
            uring,
            pool: Pool::new(Arc::clone(&event)),
            event,
            files: Vec::new(),
            queues: Vec::new(),
            in_flight: 0,
            closed: false,
            batch: Vec::new(),
            for_pool: Vec::new(),
            held_calls: 0,
            finished: VecDeque::new(),
            done,
        }
    }

    /// Number of jobs in flight.
    pub fn in_flight(&self) -> u32 {
        self.in_flight
    }

    /// Refuses new jobs and files from now on, and starts deferred jobs.
    pub fn close(&mut self) {
        self.closed = true;
        self.proceed();
    }

    /// Whether the engine was closed and no job is in flight.
    pub fn finished(&self) -> bool {
        self.closed && self.in_flight == 0
    }

    fn check_open(&self) -> Result<()> {
        if self.closed { Err(closed()) } else { Ok(()) }
    }

    /// Opens a file for jobs; returns its number.
    pub fn open(&mut self, fd: RawFd) -> Result<u32> {
        self.check_open()?;
        Ok(add(&mut self.files, Image::File(File::new(fd)?)))
    }

    /// Opens memory as a file for jobs; returns its number.
    pub fn open_memory(&mut self, mapping: Arc<Mapping>) -> Result<u32> {
        self.check_open()?;
        Ok(add(&mut self.files, Image::Memory(mapping)))
    }

    /// Frees a file's number. The file is closed when its last job in flight completes.
    pub fn release(&mut self, file: u32) -> Result<()> {
        if self.closed {
            return Ok(());
        }
        let taken = self.files.get_mut(file as usize).and_then(Option::take);
        taken
            .map(drop)
            .ok_or_else(|| out_of_range(format!("no file {file} is open in the block engine")))
    }

    /// Adds a table; returns its number.
    pub fn add_table(&mut self, jobs: u32, vectors: u32) -> Result<u32> {
        self.check_open()?;
        if self.queues.iter().flatten().count() == TABLES {
            return Err(out_of_range(format!("a block engine has at most {TABLES} tables")));
        }
        let slots = (0..jobs).map(|_| Slot::default()).collect();
        Ok(add(
            &mut self.queues,
            Queue {
                table: Arc::new(Table::new(jobs, vectors)?),
                slots,
                in_flight: 0,
                removed: false,
            },
        ))
    }

    /// The table with this number.
    pub fn table(&self, number: u32) -> Result<Arc<Table>> {
        self.queues
            .get(number as usize)
            .and_then(Option::as_ref)
            .map(|queue| Arc::clone(&queue.table))
            .ok_or_else(|| no_table(number))
    }

    /// Removes a table. It is freed when its last job in flight completes.
    pub fn remove_table(&mut self, number: u32) -> Result<()> {
        let place = self.queues.get_mut(number as usize).ok_or_else(|| no_table(number))?;
        match place {
            Some(queue) if queue.in_flight > 0 => queue.removed = true,
            Some(_) => *place = None,
            None => return Err(no_table(number)),
        }
        Ok(())
    }

    /// Starts the first `count` jobs of a table's list, or none if one of them is invalid. The
    /// numbers of jobs that complete within the call replace the list's first entries; returns how
    /// many they are. The other jobs may be deferred until `proceed`.
    pub fn submit(&mut self, number: u32, count: u32) -> Result<u32> {
        self.check_open()?;
        self.memory.check()?;
        let Self { memory, files, batch, .. } = self;
        let queue = self
            .queues
            .get_mut(number as usize)
            .and_then(Option::as_mut)
            .filter(|queue| !queue.removed)
            .ok_or_else(|| no_table(number))?;
        if count as usize > queue.slots.len() {
            return Err(out_of_range(format!(
                "\"count\" expected an integer 0..{}, got {count}",
                queue.slots.len()
            )));
        }
        batch.clear();
        if let Err(failure) = (0..count)
            .try_for_each(|at| queue.load(at, number, memory, files).map(|job| batch.push(job)))
        {
            for &job in &*batch {
                if let Some(slot) = queue.slots.get_mut(job as usize) {
                    slot.busy = false;
                }
            }
            return Err(failure);
        }
        let mut done = 0;
        for &mut job in batch {
            let Some(slot) = queue.slots.get_mut(job as usize) else { continue };
            let waits_for = match files.get(slot.job.file as usize) {
                Some(Some(Image::Memory(mapping))) => {
                    // SAFETY: the vectors lie in `memory`, which was checked at the start of this
                    // call. JavaScript can't run before the call returns. A read must not name
                    // pages mapped read-only, see README.md.
                    unsafe { mapping.perform(&mut slot.job) };
                    None
                }
                Some(Some(Image::File(file))) => (!file.attempt(&mut slot.job)).then_some(file),
                _ => continue,
            };
            if let Some(file) = waits_for {
                slot.job.prefers_uring = file.prefers_uring(slot.job.operation);
                slot.job.in_lane = file.takes_one_at_a_time(slot.job.operation);
                slot.job.descriptor = Some(file.descriptor());
                slot.job.token = Some(Token::job());
                queue.in_flight += 1;
                self.in_flight += 1;
                dispatch(&mut slot.job, self.uring.as_mut(), &mut self.for_pool);
            } else {
                slot.busy = false;
                queue.table.set_result(job, slot.job.result);
                queue.table.set_listed(done, job);
                done += 1;
            }
        }
        self.held_calls += u32::from(done < count || self.held_calls > 0);
        if self.held_calls == HELD_CALLS {
            self.go();
        }
        Ok(done)
    }

    /// Starts the deferred jobs, if there are any.
    pub fn proceed(&mut self) {
        if self.held_calls > 0 {
            self.go();
        }
    }

    /// Passes the deferred jobs to io_uring and the threads.
    fn go(&mut self) {
        self.held_calls = 0;
        self.pool.start(&mut self.for_pool);
        if let Some(uring) = &mut self.uring
            && !uring.submit()
        {
            // The kernel didn't take all entries: wake the event loop, which tries again.
            self.event.signal();
        }
    }

    /// Puts completed jobs on the done list; returns how many.
    pub fn reap(&mut self) -> u32 {
        self.event.clear();
        let Self { uring, pool, queues, for_pool, in_flight, finished, done, .. } = self;
        let mut finish = |slot: &mut Slot| {
            (slot.job.descriptor, slot.job.token) = (None, None);
            finished.push_back(slot.job.number);
        };
        for job in pool.reap() {
            if let Some(slot) = slot(queues, job.number) {
                slot.job = job;
                finish(slot);
            }
        }
        while let Some((number, outcome)) = uring.as_mut().and_then(Uring::reap) {
            let Some(slot) = slot(queues, number) else { continue };
            if outcome == Err(Errno::AGAIN) {
                // With O_NONBLOCK, for example, io_uring fails a transfer that would wait. A thread
                // may wait.
                for_pool.push(std::mem::take(&mut slot.job));
            } else if slot.job.take(outcome) {
                finish(slot);
            } else {
                dispatch(&mut slot.job, uring.as_mut(), for_pool);
            }
        }
        let count = finished.len().min(done.room() as usize) as u32;
        for (at, number) in (0..count).zip(finished.drain(..count as usize)) {
            done.set(at, number);
            *in_flight -= 1;
            end(queues, number);
        }
        if !finished.is_empty() {
            self.event.signal();
        }
        self.go();
        count
    }

    /// Blocks this thread until all jobs in flight have completed, then frees the engine.
    pub fn settle(mut self) {
        self.proceed();
        while self.in_flight > 0 {
            self.event.wait();
            self.reap();
        }
    }
}

impl Queue {
    /// Checks the job at entry `at` of the list and marks its slot busy. `table` is this table's
    /// number. Returns the job's number within the table.
    fn load(
        &mut self,
        at: u32,
        table: u32,
        memory: &Bytes,
        files: &[Option<Image>],
    ) -> Result<u32> {
        let number = self.table.listed(at).unwrap_or(u32::MAX);
        let wrong = |what: String| Err(out_of_range(format!("job {number}: {what}")));
        let (Some(row), Some(slot)) = (self.table.row(number), self.slots.get_mut(number as usize))
        else {
            return wrong(format!("expected one of 0..{}", self.slots.len() - 1));
        };
        let Row { position, length, file, first, count, operation } = row;
        if slot.busy {
            return wrong("it is in flight or listed twice".into());
        }
        let Some(operation) = Operation::new(operation) else {
            return wrong(format!("\"operation\" expected 0..4, got {operation}"));
        };
        if !matches!(files.get(file as usize), Some(Some(_))) {
            return wrong(format!("no file {file} is open in the block engine"));
        }
        slot.job.begin(table << 16 | number, operation);
        slot.job.file = file;
        if operation != Operation::Flush {
            slot.job.position = match integer(position) {
                Some(position) => position,
                None => {
                    return wrong(format!(
                        "\"position\" expected an integer 0..2^53-1, got {position}"
                    ));
                }
            };
        }
        if operation.transfers() {
            if count == 0 || count > VECTORS {
                return wrong(format!("\"count\" expected 1..{VECTORS} vectors, got {count}"));
            }
            let mut total = 0;
            for at in (0..count).map(|at| first.saturating_add(at)) {
                let Some((offset, bytes)) = self.table.vector(at) else {
                    return wrong(format!("there is no vector {at}"));
                };
                let address = memory.at(offset, bytes).filter(|_| bytes > 0);
                let Some(iov_base) = address else {
                    return wrong(format!(
                        "vector {at} of {bytes} bytes at {offset} isn't in the memory, or is empty"
                    ));
                };
                slot.job.add_vector(iovec { iov_base, iov_len: bytes as usize });
                total += u64::from(bytes);
            }
            if total > BYTES {
                return wrong(format!("{total} bytes are more than {BYTES}"));
            }
        } else if operation != Operation::Flush {
            slot.job.length = match integer(length) {
                Some(length) if length > 0 => length,
                _ => {
                    return wrong(format!(
                        "\"length\" expected an integer 1..2^53-1, got {length}"
                    ));
                }
            };
        }
        slot.busy = true;
        Ok(number)
    }
}

/// The slot of the job that has this number in the engine.
fn slot(queues: &mut [Option<Queue>], number: u32) -> Option<&mut Slot> {
    queues.get_mut((number >> 16) as usize)?.as_mut()?.slots.get_mut((number & 0xffff) as usize)
}

/// Writes the job's result to its table and frees its slot.
fn end(queues: &mut [Option<Queue>], number: u32) {
    let Some(place) = queues.get_mut((number >> 16) as usize) else { return };
    let Some(queue) = place else { return };
    let job = number & 0xffff;
    if let Some(slot) = queue.slots.get_mut(job as usize) {
        slot.busy = false;
        queue.table.set_result(job, slot.job.result);
    }
    queue.in_flight -= 1;
    if queue.removed && queue.in_flight == 0 {
        *place = None;
    }
}

/// Puts `value` into the first free place; returns the place's number.
fn add<T>(places: &mut Vec<Option<T>>, value: T) -> u32 {
    let free = places.iter().position(Option::is_none).unwrap_or(places.len());
    match places.get_mut(free) {
        Some(place) => *place = Some(value),
        None => places.push(Some(value)),
    }
    free as u32
}

/// Queues a job for io_uring or for the pool. `go` starts it.
fn dispatch(job: &mut Job, uring: Option<&mut Uring>, for_pool: &mut Vec<Job>) {
    let pushed = match (uring, &job.descriptor) {
        // SAFETY: the job stays in its busy slot until it is reaped, and the engine keeps the job's
        // memory until then.
        (Some(uring), Some(descriptor)) if job.prefers_uring => unsafe {
            uring.push(job, &**descriptor)
        },
        _ => false,
    };
    if !pushed {
        for_pool.push(std::mem::take(job));
    }
}

/// The error for calls after `close`.
pub fn closed() -> Failure {
    failure(CLOSED, "the block engine is closed")
}

fn no_table(number: u32) -> Failure {
    out_of_range(format!("the block engine has no table {number}"))
}

/// Converts a position or length. `None` unless it is an integer of 0..2^53-1.
pub fn integer(value: f64) -> Option<u64> {
    // A cast instead of `fract`, which compiles to a function call.
    let integer = value as u64;
    ((0.0..POSITIONS).contains(&value) && integer as f64 == value).then_some(integer)
}
