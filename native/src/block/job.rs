//! One job: what is to be done, and how far it has got.

use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;

use libc::iovec;
use rustix::fs::fdatasync;
use rustix::io::Errno;

use super::file::Descriptor;
use crate::counters::Token;
use crate::discard::{discard_range, zero_range};

/// Its number is JavaScript's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Operation {
    /// From the file to memory.
    #[default]
    Read,
    /// From memory to the file.
    Write,
    /// What was written before is on the disk.
    Flush,
    /// The range may read as anything, or zeros.
    Discard,
    /// The range reads as zeros.
    WriteZeroes,
}

impl Operation {
    /// `None` if there is no such operation.
    pub fn new(number: u8) -> Option<Self> {
        Some(match number {
            0 => Self::Read,
            1 => Self::Write,
            2 => Self::Flush,
            3 => Self::Discard,
            4 => Self::WriteZeroes,
            _ => return None,
        })
    }

    /// Whether data is moved.
    pub fn transfers(self) -> bool {
        matches!(self, Self::Read | Self::Write)
    }
}

/// In flight, it belongs to a thread of the pool, or the kernel reads its vectors.
#[derive(Default)]
pub struct Job {
    /// The caller's name for it.
    pub number: u32,
    /// What to do.
    pub operation: Operation,
    /// Where the next byte goes.
    pub position: u64,
    /// Of a range without data.
    pub length: u64,
    /// What memory is left to move, beginning with `next`.
    pub vectors: Vec<iovec>,
    next: usize,
    /// Bytes moved or, once done, that or a negative errno.
    pub result: i32,
    /// Which of the engine's files.
    pub file: u32,
    /// See `File::prefers_uring`.
    pub prefers_uring: bool,
    /// See `File::takes_one_at_a_time`.
    pub in_lane: bool,
    /// In flight it keeps the file open, until a thread is done with it.
    pub descriptor: Option<Arc<Descriptor>>,
    /// Counts it while in flight.
    pub token: Option<Token>,
}

// SAFETY: the pointers are addresses of memory that the engine keeps until the job is back; they
// are only given to the kernel.
unsafe impl Send for Job {}

impl Job {
    /// Starts anew, with no vectors.
    pub fn begin(&mut self, number: u32, operation: Operation) {
        (self.number, self.operation, self.next, self.result) = (number, operation, 0, 0);
        self.vectors.clear();
    }

    /// Adds memory. What is behind the last becomes one with it: the kernel takes longer for each.
    pub fn add_vector(&mut self, vector: iovec) {
        match self.vectors.last_mut() {
            Some(last) if last.iov_base.wrapping_byte_add(last.iov_len) == vector.iov_base => {
                last.iov_len += vector.iov_len
            }
            _ => self.vectors.push(vector),
        }
    }

    /// The vectors that are left.
    pub fn left(&self) -> &[iovec] {
        self.vectors.get(self.next..).unwrap_or_default()
    }

    /// Moves data, with one system call.
    pub fn transfer(&self, fd: impl AsFd, flags: i32) -> Result<usize, Errno> {
        let call =
            if self.operation == Operation::Read { libc::SYS_preadv2 } else { libc::SYS_pwritev2 };
        let left = self.left();
        // Two halves, of which a 64-bit kernel looks at the first alone.
        let (low, high) = (self.position as libc::c_long, (self.position >> 32) as libc::c_long);
        let fd = fd.as_fd().as_raw_fd();
        // SAFETY: the vectors are addresses of memory that the engine keeps until the job is done,
        // which nothing in this process has a Rust reference to. Not by libc's function: musl has
        // none.
        let moved = unsafe {
            libc::syscall(
                call,
                libc::c_long::from(fd),
                left.as_ptr(),
                left.len(),
                low,
                high,
                libc::c_long::from(flags),
            )
        };
        usize::try_from(moved).map_err(|_| {
            Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
        })
    }

    /// Takes in what a transfer gave. True if the job is done with that; else the rest is to be
    /// moved.
    pub fn take(&mut self, outcome: Result<usize, Errno>) -> bool {
        match outcome {
            Err(Errno::INTR) => false,
            Err(errno) => {
                self.result = -errno.raw_os_error();
                true
            }
            // The end of the file.
            Ok(0) => true,
            Ok(bytes) => {
                self.advance(bytes);
                self.left().is_empty()
            }
        }
    }

    fn advance(&mut self, bytes: usize) {
        self.result += bytes as i32;
        self.position += bytes as u64;
        let mut bytes = bytes;
        while let Some(vector) = self.vectors.get_mut(self.next).filter(|_| bytes > 0) {
            let part = bytes.min(vector.iov_len);
            vector.iov_base = vector.iov_base.wrapping_byte_add(part);
            vector.iov_len -= part;
            bytes -= part;
            self.next += usize::from(vector.iov_len == 0);
        }
    }

    /// Does what is left of it, however long that takes.
    pub fn perform(&mut self, fd: impl AsFd) {
        let fd = fd.as_fd();
        if self.operation.transfers() {
            loop {
                let outcome = self.transfer(fd, 0);
                if self.take(outcome) {
                    return;
                }
            }
        }
        let call = || match self.operation {
            Operation::Discard => discard_range(fd, self.position, self.length),
            Operation::WriteZeroes => zero_range(fd, self.position, self.length),
            Operation::Flush | Operation::Read | Operation::Write => fdatasync(fd),
        };
        self.result =
            rustix::io::retry_on_intr(call).map_or_else(|errno| -errno.raw_os_error(), |()| 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(lengths: &[usize]) -> Job {
        let mut at = 0x1000usize;
        let vectors = lengths.iter().map(|&iov_len| {
            let vector = iovec { iov_base: std::ptr::without_provenance_mut(at), iov_len };
            at += iov_len;
            vector
        });
        Job { vectors: vectors.collect(), position: 100, ..Job::default() }
    }

    fn left(job: &Job) -> Vec<(usize, usize)> {
        job.left().iter().map(|vector| (vector.iov_base.addr(), vector.iov_len)).collect()
    }

    #[test]
    fn goes_on_where_it_stopped() {
        let mut job = job(&[10, 20, 30]);
        assert!(!job.take(Ok(4)));
        assert_eq!(
            (left(&job), job.position),
            (vec![(0x1004, 6), (0x100a, 20), (0x101e, 30)], 104)
        );
        assert!(!job.take(Err(Errno::INTR)));
        assert!(!job.take(Ok(26)));
        assert_eq!((left(&job), job.position), (vec![(0x101e, 30)], 130));
        assert!(!job.take(Ok(29)));
        assert!(job.take(Ok(1)));
        assert_eq!((left(&job), job.result), (vec![], 60));
    }

    #[test]
    fn neighbours_are_one_vector() {
        let mut job = Job::default();
        for (at, iov_len) in [(0x1000usize, 4), (0x1004, 8), (0x1010, 1), (0x1000, 2)] {
            job.add_vector(iovec { iov_base: std::ptr::without_provenance_mut(at), iov_len });
        }
        assert_eq!(left(&job), [(0x1000, 12), (0x1010, 1), (0x1000, 2)]);
    }

    #[test]
    fn ends_at_the_end_of_the_file_and_with_an_error() {
        let mut job = job(&[10, 20]);
        assert!(!job.take(Ok(12)));
        assert!(job.take(Ok(0)));
        assert_eq!(job.result, 12);
        assert!(job.take(Err(Errno::NOSPC)));
        assert_eq!(job.result, -28);
    }
}
