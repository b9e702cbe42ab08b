//! io_uring, for transfers that have to wait for a disk. An eventfd announces completions.

use std::io::Result;
use std::os::fd::{AsRawFd, RawFd};

use io_uring::types::Fd;
use io_uring::{IoUring, opcode};
use rustix::io::Errno;

use super::job::{Job, Operation};

/// An io_uring of one thread. Don't drop it with a job in flight: the kernel could still use the
/// job's memory afterwards.
pub struct Uring {
    ring: IoUring,
    jobs: u32,
    in_flight: u32,
}

impl Uring {
    /// Opens an io_uring for `jobs` jobs in flight. Fails if the kernel lacks io_uring, or if
    /// `io_uring_disabled` or a seccomp filter forbids it. A filter may allow only the setup call,
    /// so one operation is submitted as a test.
    pub fn open(jobs: u32, event: RawFd) -> Result<Self> {
        let mut ring = IoUring::new(jobs.next_power_of_two())?;
        // SAFETY: the nop takes no pointer.
        let _ = unsafe { ring.submission().push(&opcode::Nop::new().build()) };
        ring.submit_and_wait(1)?;
        ring.completion().next();
        ring.submitter().register_eventfd(event)?;
        Ok(Self { ring, jobs, in_flight: 0 })
    }

    /// Queues a transfer for `submit`. Returns false if `jobs` jobs are in flight: with more, the
    /// completion ring could overflow, and the kernel would report those completions late and
    /// without the eventfd.
    ///
    /// # Safety
    ///
    /// Until the job is reaped, it must not change, and its vectors' memory must stay accessible.
    pub unsafe fn push(&mut self, job: &Job, fd: &impl AsRawFd) -> bool {
        if self.in_flight == self.jobs {
            return false;
        }
        let (fd, vectors) = (Fd(fd.as_raw_fd()), job.left());
        let (first, count) = (vectors.as_ptr(), vectors.len() as u32);
        let entry = match job.operation {
            Operation::Read => opcode::Readv::new(fd, first, count).offset(job.position).build(),
            _ => opcode::Writev::new(fd, first, count).offset(job.position).build(),
        };
        // SAFETY: the caller vouches for everything that the entry points to.
        let pushed =
            unsafe { self.ring.submission().push(&entry.user_data(u64::from(job.number))) }.is_ok();
        self.in_flight += u32::from(pushed);
        pushed
    }

    /// Starts the queued transfers with one system call, if there are any. Returns false if the
    /// kernel didn't take all of them, for lack of memory for example: then call `submit` again
    /// later.
    pub fn submit(&mut self) -> bool {
        if !self.ring.submission().is_empty() {
            let _ = self.ring.submit();
        }
        self.ring.submission().is_empty()
    }

    /// Returns the number of the next completed job, and the outcome of its transfer.
    pub fn reap(&mut self) -> Option<(u32, std::result::Result<usize, Errno>)> {
        let completion = self.ring.completion().next()?;
        self.in_flight -= 1;
        let outcome = usize::try_from(completion.result())
            .map_err(|_| Errno::from_raw_os_error(-completion.result()));
        Some((completion.user_data() as u32, outcome))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::block::event::Event;
    use libc::iovec;

    #[test]
    fn takes_no_more_jobs_than_completions_fit() {
        let event = Event::new().unwrap();
        // Where io_uring isn't available there is nothing to test.
        let Ok(mut uring) = Uring::open(2, event.as_raw_fd()) else { return };
        let zeros = std::fs::File::open("/dev/zero").unwrap();
        let mut bytes = [1u8; 3];
        let jobs = [0usize, 1, 2].map(|at| {
            let mut job = Job::default();
            job.begin(at as u32, Operation::Read);
            job.add_vector(iovec {
                iov_base: bytes.as_mut_ptr().wrapping_add(at).cast(),
                iov_len: 1,
            });
            job
        });
        let [first, second, third] = &jobs;
        // SAFETY: jobs and bytes stay in place until all jobs are reaped below.
        let push = |uring: &mut Uring, job: &Job| unsafe { uring.push(job, &zeros) };
        let next = |uring: &mut Uring| {
            loop {
                match uring.reap() {
                    Some(done) => return done,
                    None => event.wait(),
                }
            }
        };
        assert!(push(&mut uring, first) && push(&mut uring, second));
        assert!(uring.submit());
        assert!(
            !push(&mut uring, third),
            "the submission queue is empty, but the completion queue may not be"
        );
        assert_eq!(next(&mut uring).1, Ok(1));
        assert!(push(&mut uring, third) && uring.submit());
        assert_eq!((next(&mut uring).1, next(&mut uring).1), (Ok(1), Ok(1)));
        assert!(uring.reap().is_none());
    }
}
