//! Threads for jobs that have to wait and don't run on io_uring.
//!
//! Threads start when there is work for them. A batch of jobs is queued under one lock, with one
//! wake: each thread that takes work wakes the next one while work is left.
//!
//! The kernel runs writes to one file's page cache one at a time, under a lock. So these writes
//! form a lane, in which one thread performs several of them in a row: eight threads waiting for
//! the same lock would cost a third of a processor.
//!
//! A thread announces each completed job immediately by an eventfd, but jobs of a lane only after
//! `SHARE` of them. While there are lanes, one more thread runs, the watcher. It announces
//! completed jobs of a lane whose next job stalls.

use std::collections::hash_map::{Entry, HashMap};
use std::collections::vec_deque::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use rustix::io::Errno;

use super::event::Event;
use super::job::Job;

/// Most threads: enough for one disk's queue, in which each waiting job occupies one thread.
const THREADS: usize = 8;
/// Stack size in bytes, which is small: the threads call the kernel and little else.
const STACK: usize = 128 << 10;

/// Jobs of a lane that a thread performs before it announces them. This is half of what a one-page
/// ring holds, so that the guest has work while the other half runs.
const SHARE: usize = 16;

/// Interval at which the watcher announces completed jobs of lanes. A timer on the event loop in
/// place of the watcher would cost a tenth of a write, because the loop sets the timer each time it
/// sleeps.
const WATCH: Duration = Duration::from_millis(5);

/// The unit of work that a thread takes from the queue.
enum Task {
    Job(Job),
    /// Some jobs of one lane, which is named by its key.
    Lane(usize),
}

#[derive(Default)]
struct Work {
    queue: VecDeque<Task>,
    /// Waiting jobs of each lane, by the address of the file's descriptor. Each lane in this map is
    /// in the queue, or a thread is working on it.
    lanes: HashMap<usize, VecDeque<Job>>,
    /// Number of threads that are waiting for work.
    idle: usize,
    /// Whether the watcher is awake and announces completed jobs periodically.
    watched: bool,
    closed: bool,
}

#[derive(Default)]
struct Done {
    jobs: Vec<Job>,
    /// Whether the event loop was already woken for these jobs.
    announced: bool,
}

struct Shared {
    work: Mutex<Work>,
    wake: Condvar,
    watch: Condvar,
    done: Mutex<Done>,
    event: Arc<Event>,
}

/// The threads and their queue. Don't drop a pool with jobs in flight.
pub struct Pool {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    watcher: Option<JoinHandle<()>>,
    /// An empty vector to swap with the completed jobs, so that neither side allocates.
    spare: Vec<Job>,
}

impl Pool {
    /// Makes a pool without threads; `start` starts them.
    pub fn new(event: Arc<Event>) -> Self {
        let shared = Shared {
            work: Mutex::default(),
            wake: Condvar::new(),
            watch: Condvar::new(),
            done: Mutex::default(),
            event,
        };
        Self { shared: Arc::new(shared), threads: Vec::new(), watcher: None, spare: Vec::new() }
    }

    /// Queues all of `jobs`, and leaves the vector empty.
    pub fn start(&mut self, jobs: &mut Vec<Job>) {
        if jobs.is_empty() {
            return;
        }
        let mut work = lock(&self.shared.work);
        for job in jobs.drain(..) {
            work.add(job);
        }
        let (waiting, idle) = (work.queue.len(), work.idle);
        let watch = !work.lanes.is_empty()
            && (!std::mem::replace(&mut work.watched, true) || self.watcher.is_none());
        drop(work);
        if watch {
            self.shared.watch.notify_one();
            self.watcher = self.watcher.take().or_else(|| self.spawn("xenkit-watch", watch_lanes));
        }
        if idle > 0 && waiting > 0 {
            self.shared.wake.notify_one();
        }
        let wanted = waiting.saturating_sub(idle).min(THREADS - self.threads.len());
        for _ in 0..wanted {
            self.threads.extend(self.spawn("xenkit-disk", serve));
        }
        if self.threads.is_empty() {
            // The system can't start a thread, and this pool has none, so the jobs fail. A single
            // thread would have performed them, if late.
            self.shared.fail_all(Errno::AGAIN);
        }
    }

    fn spawn(&self, name: &str, run: fn(&Shared)) -> Option<JoinHandle<()>> {
        let shared = Arc::clone(&self.shared);
        Builder::new().name(name.into()).stack_size(STACK).spawn(move || run(&shared)).ok()
    }

    /// Takes the jobs that completed since the last call.
    pub fn reap(&mut self) -> std::vec::Drain<'_, Job> {
        let mut done = lock(&self.shared.done);
        done.announced = false;
        std::mem::swap(&mut done.jobs, &mut self.spare);
        drop(done);
        self.spare.drain(..)
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        lock(&self.shared.work).closed = true;
        self.shared.wake.notify_all();
        self.shared.watch.notify_all();
        for thread in self.threads.drain(..).chain(self.watcher.take()) {
            // A thread can't have panicked: jobs run under `catch_unwind`.
            let _ = thread.join();
        }
    }
}

impl Work {
    fn add(&mut self, job: Job) {
        let lane = job
            .descriptor
            .as_ref()
            .filter(|_| job.in_lane)
            .map(|descriptor| Arc::as_ptr(descriptor).addr());
        match lane.map(|number| (number, self.lanes.entry(number))) {
            None => self.queue.push_back(Task::Job(job)),
            Some((_, Entry::Occupied(mut jobs))) => jobs.get_mut().push_back(job),
            Some((number, Entry::Vacant(place))) => {
                place.insert(VecDeque::from([job]));
                self.queue.push_back(Task::Lane(number));
            }
        }
    }

    /// Moves the task's next jobs to `jobs`. Returns the lane's key if the task is a lane; it must
    /// be passed to `put_back`.
    fn unpack(&mut self, task: Task, jobs: &mut Vec<Job>) -> Option<usize> {
        match task {
            Task::Job(job) => {
                jobs.push(job);
                None
            }
            Task::Lane(number) => {
                if let Some(waiting) = self.lanes.get_mut(&number) {
                    jobs.extend(waiting.drain(..waiting.len().min(SHARE)));
                }
                Some(number)
            }
        }
    }

    /// Puts a lane that has jobs left at the end of the queue, and removes an empty lane.
    fn put_back(&mut self, number: usize) {
        if self.lanes.get(&number).is_some_and(|jobs| !jobs.is_empty()) {
            self.queue.push_back(Task::Lane(number));
        } else {
            self.lanes.remove(&number);
        }
    }

    /// Empties the queue and returns its jobs, so that the caller can fail them.
    fn clear(&mut self) -> Vec<Job> {
        let mut jobs = Vec::new();
        while let Some(task) = self.queue.pop_front() {
            if let Some(lane) = self.unpack(task, &mut jobs) {
                self.put_back(lane);
            }
        }
        jobs
    }
}

impl Shared {
    fn finish(&self, job: Job) {
        lock(&self.done).jobs.push(job);
    }

    /// Wakes the event loop, unless it was woken already. The loop may call `reap` before this
    /// returns, so the lock is released first.
    fn announce(&self) {
        let mut done = lock(&self.done);
        let news = !done.jobs.is_empty() && !std::mem::replace(&mut done.announced, true);
        drop(done);
        if news {
            self.event.signal();
        }
    }

    fn fail_all(&self, errno: Errno) {
        let jobs = lock(&self.work).clear();
        for mut job in jobs {
            job.result = -errno.raw_os_error();
            self.finish(job);
        }
        self.announce();
    }

    fn perform(&self, mut job: Job) {
        // If this was the last job on a file that JavaScript has released, the file is closed here.
        let descriptor = job.descriptor.take();
        let performed = descriptor
            .map(|descriptor| catch_unwind(AssertUnwindSafe(|| job.perform(&*descriptor))));
        if !matches!(performed, Some(Ok(()))) {
            job.result = -Errno::IO.raw_os_error();
        }
        self.finish(job);
    }
}

fn serve(shared: &Shared) {
    let mut share = Vec::with_capacity(SHARE);
    let mut work = lock(&shared.work);
    loop {
        if let Some(task) = work.queue.pop_front() {
            let lane = work.unpack(task, &mut share);
            let more = !work.queue.is_empty() && work.idle > 0;
            drop(work);
            if more {
                shared.wake.notify_one();
            }
            share.drain(..).for_each(|job| shared.perform(job));
            shared.announce();
            work = lock(&shared.work);
            if let Some(lane) = lane {
                work.put_back(lane);
            }
        } else if work.closed {
            return;
        } else {
            work.idle += 1;
            work = shared.wake.wait(work).unwrap_or_else(PoisonError::into_inner);
            work.idle -= 1;
        }
    }
}

/// The watcher's loop. The watcher stays awake until it finds no lane, so that not every lane has
/// to wake it.
fn watch_lanes(shared: &Shared) {
    let mut work = lock(&shared.work);
    while !work.closed {
        if work.watched {
            work = shared.watch.wait_timeout(work, WATCH).unwrap_or_else(PoisonError::into_inner).0;
            work.watched = !work.lanes.is_empty();
            drop(work);
            shared.announce();
            work = lock(&shared.work);
        } else {
            work = shared.watch.wait(work).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// Locks a mutex. The lock is never poisoned, because no code panics while it holds one.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
