//! Threads for what has to wait and io_uring doesn't do, or isn't there to do.
//!
//! They start when there is work for them. A batch is handed over under one lock, with one wake:
//! each thread that takes work wakes the next while there is more. Jobs of a file that takes one at
//! a time make a lane, in which one thread does several: eight that wait for the same lock cost a
//! third of a processor. What a thread has done it announces at once, by an eventfd, that of a lane
//! when it has done its share. One more thread, which is there when a lane is, announces what is
//! done behind a job that stalls.

use std::collections::hash_map::{Entry, HashMap};
use std::collections::vec_deque::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use rustix::io::Errno;

use super::event::Event;
use super::job::Job;

/// As many as a queue of a disk can use; a job that waits occupies one.
const THREADS: usize = 8;
/// They call the kernel and little else.
const STACK: usize = 128 << 10;

/// Jobs that a thread does in a lane before it announces them: half of what a ring of one page
/// holds, so that the guest has work while the other half is done.
const SHARE: usize = 16;

/// How long what is done may wait to be announced together with what stalls. A timer of the event
/// loop, which it sets each time that it sleeps, would take a tenth of a write.
const WATCH: Duration = Duration::from_millis(5);

/// What a thread takes.
enum Task {
    Job(Job),
    /// Some jobs of a lane.
    Lane(usize),
}

#[derive(Default)]
struct Work {
    queue: VecDeque<Task>,
    /// By the address of the file's descriptor. Each is in the queue, or in a thread's hands.
    lanes: HashMap<usize, VecDeque<Job>>,
    /// Threads that wait for work.
    idle: usize,
    /// Somebody looks every now and then for what is done in lanes.
    watched: bool,
    closed: bool,
}

#[derive(Default)]
struct Done {
    jobs: Vec<Job>,
    /// The event loop was woken for these.
    announced: bool,
}

struct Shared {
    work: Mutex<Work>,
    wake: Condvar,
    watch: Condvar,
    done: Mutex<Done>,
    event: Arc<Event>,
}

/// Nothing may be in flight when it is dropped.
pub struct Pool {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    watcher: Option<JoinHandle<()>>,
    /// Empty, for the next batch of completions.
    spare: Vec<Job>,
}

impl Pool {
    /// Without threads yet.
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

    /// Starts jobs, which are taken out of `jobs`.
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
            // The system has no thread for anybody; with one the jobs would be done, if late.
            self.shared.fail_all(Errno::AGAIN);
        }
    }

    fn spawn(&self, name: &str, run: fn(&Shared)) -> Option<JoinHandle<()>> {
        let shared = Arc::clone(&self.shared);
        Builder::new().name(name.into()).stack_size(STACK).spawn(move || run(&shared)).ok()
    }

    /// Jobs that are done since the last call.
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
            // It can't have panicked outside of a job.
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

    /// Moves what a thread does next to `jobs`. Returns the lane that it is of, which has to be put
    /// back.
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

    /// What is left in a lane comes after what else there is to do.
    fn put_back(&mut self, number: usize) {
        if self.lanes.get(&number).is_some_and(|jobs| !jobs.is_empty()) {
            self.queue.push_back(Task::Lane(number));
        } else {
            self.lanes.remove(&number);
        }
    }

    /// All jobs, which nobody will do.
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

    /// Has the event loop look, unless it is about to. It may do so before this returns, so the
    /// lock is given back first.
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
        // Closed here, should it be the last job of a file that JavaScript let go.
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

/// It goes on for as long as there are lanes whenever it looks, so that nobody has to wake it for
/// each.
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

/// Nothing panics while it holds a lock.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
