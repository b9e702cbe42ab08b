//! io_uring: transfers that have to wait for a disk. Its completions are announced by an eventfd.

use std::io::Result;
use std::os::fd::{AsRawFd, RawFd};

use io_uring::types::Fd;
use io_uring::{IoUring, opcode};
use rustix::io::Errno;

use super::job::{Job, Operation};

/// Belongs to one thread. Nothing may be in flight when it is dropped: the kernel lets go later.
pub struct Uring {
    ring: IoUring,
    jobs: u32,
    in_flight: u32,
}

impl Uring {
    /// A ring for `jobs` jobs in flight, or why there is none: the kernel lacks it,
    /// `io_uring_disabled` or a filter of system calls forbids it. It is tried out, for a filter
    /// may allow to make one and nothing else.
    pub fn open(jobs: u32, event: RawFd) -> Result<Self> {
        let mut ring = IoUring::new(jobs.next_power_of_two())?;
        // SAFETY: no operation takes no pointer.
        let _ = unsafe { ring.submission().push(&opcode::Nop::new().build()) };
        ring.submit_and_wait(1)?;
        ring.completion().next();
        ring.submitter().register_eventfd(event)?;
        Ok(Self { ring, jobs, in_flight: 0 })
    }

    /// Adds a transfer to what `submit` starts. False if there is no room: also for its completion,
    /// which would come unannounced, and only when the kernel is called.
    ///
    /// # Safety
    /// Until its completion was reaped the job must stay as it is, and its vectors' memory
    /// accessible.
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
        // SAFETY: the caller vouches for all that the entry points to.
        let pushed =
            unsafe { self.ring.submission().push(&entry.user_data(u64::from(job.number))) }.is_ok();
        self.in_flight += u32::from(pushed);
        pushed
    }

    /// Starts what was pushed, with one system call if there is any. False if the kernel took not
    /// all, for want of memory say: to be called again.
    pub fn submit(&mut self) -> bool {
        if !self.ring.submission().is_empty() {
            let _ = self.ring.submit();
        }
        self.ring.submission().is_empty()
    }

    /// The next job that is done, and what its transfer gave.
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
    fn takes_no_more_than_it_has_room_for_completions_of() {
        let event = Event::new().unwrap();
        // Without io_uring there is nothing to see.
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
        // SAFETY: jobs and bytes stay where they are until all were reaped, below.
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
            "the queue of submissions is empty, that of completions may not be"
        );
        assert_eq!(next(&mut uring).1, Ok(1));
        assert!(push(&mut uring, third) && uring.submit());
        assert_eq!((next(&mut uring).1, next(&mut uring).1), (Ok(1), Ok(1)));
        assert!(uring.reap().is_none());
    }
}
