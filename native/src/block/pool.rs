//! Threads for what has to wait and io_uring doesn't do, or isn't there to do.
//!
//! They start when there is work for them. A batch is handed over under one lock, with one wake: each
//! thread that takes a job wakes the next while there are more. Their completions are announced by an
//! eventfd, once until the event loop has looked.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};

use rustix::io::Errno;

use super::event::Event;
use super::job::Job;

/// As many as a queue of a disk can use; a job that waits occupies one.
const THREADS: usize = 8;
/// They call the kernel and little else.
const STACK: usize = 128 << 10;

#[derive(Default)]
struct Work {
    queue: VecDeque<Job>,
    /// Threads that wait for work.
    idle: usize,
    closed: bool,
}

struct Shared {
    work: Mutex<Work>,
    wake: Condvar,
    done: Mutex<Vec<Job>>,
    event: Arc<Event>,
}

/// Nothing may be in flight when it is dropped.
pub struct Pool {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    /// Empty, for the next batch of completions.
    spare: Vec<Job>,
}

impl Pool {
    /// Without threads yet.
    pub fn new(event: Arc<Event>) -> Self {
        let shared = Shared { work: Mutex::default(), wake: Condvar::new(), done: Mutex::default(), event };
        Self { shared: Arc::new(shared), threads: Vec::new(), spare: Vec::new() }
    }

    /// Starts jobs, which are taken out of `jobs`.
    pub fn start(&mut self, jobs: &mut Vec<Job>) {
        if jobs.is_empty() {
            return;
        }
        let mut work = lock(&self.shared.work);
        work.queue.extend(jobs.drain(..));
        let (waiting, idle) = (work.queue.len(), work.idle);
        drop(work);
        if idle > 0 {
            self.shared.wake.notify_one();
        }
        let wanted = waiting.saturating_sub(idle).min(THREADS - self.threads.len());
        for _ in 0..wanted {
            let shared = Arc::clone(&self.shared);
            let started = Builder::new().name("xenkit-disk".into()).stack_size(STACK).spawn(move || serve(&shared));
            self.threads.extend(started);
        }
        if self.threads.is_empty() {
            // The system has no thread for anybody; with one the jobs would be done, if late.
            self.shared.fail_all(Errno::AGAIN);
        }
    }

    /// Jobs that are done since the last call.
    pub fn reap(&mut self) -> std::vec::Drain<'_, Job> {
        std::mem::swap(&mut *lock(&self.shared.done), &mut self.spare);
        self.spare.drain(..)
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        lock(&self.shared.work).closed = true;
        self.shared.wake.notify_all();
        for thread in self.threads.drain(..) {
            // It can't have panicked outside of a job.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn finish(&self, job: Job) {
        let mut done = lock(&self.done);
        done.push(job);
        // The event loop looks after it was woken: what is there by then needs no wake of its own.
        if done.len() == 1 {
            self.event.signal();
        }
    }

    fn fail_all(&self, errno: Errno) {
        for mut job in lock(&self.work).queue.drain(..) {
            job.result = -errno.raw_os_error();
            self.finish(job);
        }
    }
}

fn serve(shared: &Shared) {
    let mut work = lock(&shared.work);
    loop {
        if let Some(mut job) = work.queue.pop_front() {
            let more = !work.queue.is_empty() && work.idle > 0;
            drop(work);
            if more {
                shared.wake.notify_one();
            }
            // Closed here, should it be the last job of a file that JavaScript let go.
            let descriptor = job.descriptor.take();
            let performed = descriptor.map(|descriptor| catch_unwind(AssertUnwindSafe(|| job.perform(&*descriptor))));
            if !matches!(performed, Some(Ok(()))) {
                job.result = -Errno::IO.raw_os_error();
            }
            shared.finish(job);
            work = lock(&shared.work);
        } else if work.closed {
            return;
        } else {
            work.idle += 1;
            work = shared.wake.wait(work).unwrap_or_else(PoisonError::into_inner);
            work.idle -= 1;
        }
    }
}

/// Nothing panics while it holds a lock.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
