//! One job: its operation and its progress.

use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;

use libc::iovec;
use rustix::fs::fdatasync;
use rustix::io::Errno;

use super::descriptor::Descriptor;
use crate::counters::Token;
use crate::discard::{discard_range, zero_range};

/// Operations of a job. JavaScript passes them by number, so the numbers must not change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Operation {
    /// Copies from the file to memory.
    #[default]
    Read,
    /// Copies from memory to the file.
    Write,
    /// Waits until all completed writes are on the disk.
    Flush,
    /// Discards a range, which may then read as anything.
    Discard,
    /// Makes a range read as zeros.
    WriteZeroes,
}

impl Operation {
    /// The operation with this number; `None` if there is none.
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

    /// Whether the operation moves data between memory and the file.
    pub fn transfers(self) -> bool {
        matches!(self, Self::Read | Self::Write)
    }
}

/// A job. While it is in flight, a thread of the pool owns it, or the kernel reads its vectors.
#[derive(Default)]
pub struct Job {
    /// The job's number in the engine: the table's number in the upper 16 bits, the number within
    /// the table in the lower.
    pub number: u32,
    /// The kind of operation.
    pub operation: Operation,
    /// Offset of the next byte in the file.
    pub position: u64,
    /// Length of the range in bytes, for operations without data.
    pub length: u64,
    /// Memory to move data from or to. Vectors before index `next` are complete.
    pub vectors: Vec<iovec>,
    next: usize,
    /// Bytes moved so far. For a complete job: all bytes moved, or a negative errno.
    pub result: i32,
    /// Number by which the engine knows the file.
    pub file: u32,
    /// Whether io_uring runs the job; see `File::prefers_uring`.
    pub prefers_uring: bool,
    /// Whether the pool runs the job in its file's lane; see `File::takes_one_at_a_time`.
    pub in_lane: bool,
    /// Keeps the file open while the job is in flight.
    pub descriptor: Option<Arc<Descriptor>>,
    /// Counts the job while it is in flight.
    pub token: Option<Token>,
}

// SAFETY: the vectors point to memory that the engine keeps until the job returns to it. They are
// only passed to the kernel.
unsafe impl Send for Job {}

impl Job {
    /// Reuses this value for a new job without vectors.
    pub fn begin(&mut self, number: u32, operation: Operation) {
        (self.number, self.operation, self.next, self.result) = (number, operation, 0, 0);
        self.vectors.clear();
    }

    /// Adds memory to the job. A vector that continues the last one is merged with it, because the
    /// kernel takes time for each vector.
    pub fn add_vector(&mut self, vector: iovec) {
        match self.vectors.last_mut() {
            Some(last) if last.iov_base.wrapping_byte_add(last.iov_len) == vector.iov_base => {
                last.iov_len += vector.iov_len
            }
            _ => self.vectors.push(vector),
        }
    }

    /// The vectors that still have to be moved.
    pub fn left(&self) -> &[iovec] {
        self.vectors.get(self.next..).unwrap_or_default()
    }

    /// Moves data with one system call; returns the number of bytes, which may be short.
    pub fn transfer(&self, fd: impl AsFd, flags: i32) -> Result<usize, Errno> {
        let call =
            if self.operation == Operation::Read { libc::SYS_preadv2 } else { libc::SYS_pwritev2 };
        let left = self.left();
        // The system call takes the position as two halves; a 64-bit kernel takes all of the
        // position from the first.
        let (low, high) = (self.position as libc::c_long, (self.position >> 32) as libc::c_long);
        let fd = fd.as_fd().as_raw_fd();
        // SAFETY: the vectors point to memory that the engine keeps until the job completes. No
        // Rust reference to that memory exists. The raw system call is used because musl lacks the
        // function.
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

    /// Records the outcome of one transfer. Returns true if the job is complete, false if the rest
    /// must be moved.
    pub fn take(&mut self, outcome: Result<usize, Errno>) -> bool {
        match outcome {
            Err(Errno::INTR) => false,
            Err(errno) => {
                self.result = -errno.raw_os_error();
                true
            }
            // Zero bytes mean the end of the file.
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

    /// Performs the rest of the job, however long it takes.
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
    fn resumes_a_partial_transfer_where_it_stopped() {
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
    fn merges_adjacent_vectors() {
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
