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
    /// A ring for `jobs` jobs in flight, or why there is none: the kernel lacks it, `io_uring_disabled` or a filter of
    /// system calls forbids it. It is tried out, for a filter may allow to make one and nothing else.
    pub fn open(jobs: u32, event: RawFd) -> Result<Self> {
        let mut ring = IoUring::new(jobs.next_power_of_two())?;
        // SAFETY: no operation takes no pointer.
        let _ = unsafe { ring.submission().push(&opcode::Nop::new().build()) };
        ring.submit_and_wait(1)?;
        ring.completion().next();
        ring.submitter().register_eventfd(event)?;
        Ok(Self { ring, jobs, in_flight: 0 })
    }

    /// Adds a transfer to what `submit` starts. False if there is no room: also for its completion, which would come
    /// unannounced, and only when the kernel is called.
    ///
    /// # Safety
    /// Until its completion was reaped the job must stay as it is, and its vectors' memory accessible.
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
        let pushed = unsafe { self.ring.submission().push(&entry.user_data(u64::from(job.number))) }.is_ok();
        self.in_flight += u32::from(pushed);
        pushed
    }

    /// Starts what was pushed, with one system call if there is any. False if the kernel took not all, for want of memory say: to be
    /// called again.
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
        let outcome = usize::try_from(completion.result()).map_err(|_| Errno::from_raw_os_error(-completion.result()));
        Some((completion.user_data() as u32, outcome))
    }
}
