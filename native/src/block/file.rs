//! A disk image: how its data can be reached without waiting for a disk.

use std::cell::Cell;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::Arc;

use rustix::fs::{FileType, OFlags, fcntl_getfl, fstat, fstatfs};
use rustix::io::{Errno, fcntl_dupfd_cloexec};

use super::job::{Job, Operation};
use crate::counters::Token;
use crate::errors::{Result, os, out_of_range};

/// `TMPFS_MAGIC` and `RAMFS_MAGIC` of include/uapi/linux/magic.h.
const IN_MEMORY: [u32; 2] = [0x0102_1994, 0x8584_58f6];

/// A descriptor of the engine's own, closed with the last job that uses it: JavaScript may close
/// the number that it gave, and get it again for another file.
pub struct Descriptor {
    fd: OwnedFd,
    _token: Token,
}

impl AsRawFd for Descriptor {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

impl AsFd for Descriptor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// An image that jobs may name.
pub struct File {
    descriptor: Arc<Descriptor>,
    /// On a file system without a disk, whose calls don't wait, and which knows no `RWF_NOWAIT`.
    in_memory: bool,
    /// `O_DIRECT`
    direct: bool,
    /// Writes end in the page cache of a file, whose lock only one has at a time.
    locks_to_write: bool,
    /// The file system can fail a call rather than wait. For one that can't, io_uring isn't
    /// trustworthy either: it takes a file that can be polled, as those of FUSE can, for one that
    /// doesn't wait, and makes the event loop wait.
    nowait: bool,
    /// Whether that is worth trying. Some file systems have it for reading alone.
    try_read: Cell<bool>,
    try_write: Cell<bool>,
}

impl File {
    /// Of an open descriptor.
    pub fn new(fd: RawFd) -> Result<Self> {
        if fd < 0 {
            return Err(out_of_range(format!("\"fd\" expected an integer 0.., got {fd}")));
        }
        // SAFETY: not negative, and only used for this call; of a number that isn't open the kernel
        // says EBADF.
        let given = unsafe { BorrowedFd::borrow_raw(fd) };
        let descriptor = Descriptor {
            fd: fcntl_dupfd_cloexec(given, 0).map_err(os(format!("dup of descriptor {fd}")))?,
            _token: Token::fd(),
        };
        let inspect = || {
            // Device nodes lie on a file system in memory, too.
            let regular =
                FileType::from_raw_mode(fstat(&descriptor)?.st_mode) == FileType::RegularFile;
            // The type's name and size depend on the platform, the number doesn't.
            let in_memory = regular && IN_MEMORY.contains(&(fstatfs(&descriptor)?.f_type as u32));
            let flags = fcntl_getfl(&descriptor)?;
            // What has to be on the disk waits for it without the lock, several together.
            let locks_to_write =
                regular && !flags.intersects(OFlags::DIRECT | OFlags::DSYNC | OFlags::SYNC);
            Ok((
                in_memory,
                flags.contains(OFlags::DIRECT),
                locks_to_write,
                can_fail_rather_than_wait(&descriptor),
            ))
        };
        let (in_memory, direct, locks_to_write, nowait) =
            inspect().map_err(os(format!("look at descriptor {fd}")))?;
        // A direct transfer that is told not to wait would still wait for its end.
        let worthwhile = nowait && !direct;
        Ok(Self {
            descriptor: Arc::new(descriptor),
            in_memory,
            direct,
            locks_to_write,
            nowait,
            try_read: Cell::new(worthwhile),
            try_write: Cell::new(worthwhile),
        })
    }

    /// For a job that goes on beside the event loop.
    pub fn descriptor(&self) -> Arc<Descriptor> {
        Arc::clone(&self.descriptor)
    }

    /// Whether io_uring is the one to do what has to wait. It has no operation for some. Writes to
    /// the page cache it gives to one thread of its own for each file: 0.49 of a loop of pwrite in
    /// C, 0.87 by our threads (32 in flight, 4 KiB, ext4).
    pub fn prefers_uring(&self, operation: Operation) -> bool {
        self.nowait
            && (operation == Operation::Read || operation == Operation::Write && self.direct)
    }

    /// Whether such jobs wait for one another anyway.
    pub fn takes_one_at_a_time(&self, operation: Operation) -> bool {
        operation == Operation::Write && self.locks_to_write
    }

    /// Does as much of a job as needs no disk. True if that is all of it.
    pub fn attempt(&self, job: &mut Job) -> bool {
        if self.in_memory {
            job.perform(&*self.descriptor);
            return true;
        }
        let may_try = match job.operation {
            Operation::Read => &self.try_read,
            Operation::Write => &self.try_write,
            Operation::Flush | Operation::Discard | Operation::WriteZeroes => return false,
        };
        if !may_try.get() {
            return false;
        }
        match job.transfer(&*self.descriptor, libc::RWF_NOWAIT) {
            Err(Errno::AGAIN) => false,
            // What a kernel says that knows the flag but not for this file, or doesn't know it.
            Err(Errno::OPNOTSUPP | Errno::INVAL) => {
                may_try.set(false);
                false
            }
            outcome => job.take(outcome),
        }
    }
}

/// Whether reading knows `RWF_NOWAIT`: the kernel looks at that before it looks at anything else
/// but the right to read.
fn can_fail_rather_than_wait(descriptor: &Descriptor) -> bool {
    let mut byte = 0u8;
    let mut probe = Job::default();
    probe.vectors.push(libc::iovec { iov_base: std::ptr::from_mut(&mut byte).cast(), iov_len: 1 });
    // What is direct has no single bytes.
    matches!(probe.transfer(descriptor, libc::RWF_NOWAIT), Ok(_) | Err(Errno::AGAIN | Errno::INVAL))
}
