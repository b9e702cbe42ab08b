//! A disk image in a file: which operations can complete without waiting for a disk.

use std::cell::Cell;
use std::os::fd::RawFd;
use std::sync::Arc;

use rustix::fs::{FileType, OFlags, fcntl_getfl, fstat, fstatfs};
use rustix::io::Errno;

use super::descriptor::Descriptor;
use super::job::{Job, Operation};
use crate::errors::{Result, os};

/// `TMPFS_MAGIC` and `RAMFS_MAGIC` of include/uapi/linux/magic.h.
const IN_MEMORY: [u32; 2] = [0x0102_1994, 0x8584_58f6];

/// A file or block device that jobs may name.
pub struct File {
    descriptor: Arc<Descriptor>,
    /// The file lies on a file system in memory. Its calls never wait, and it doesn't support
    /// `RWF_NOWAIT`.
    in_memory: bool,
    /// Opened with `O_DIRECT`.
    direct: bool,
    /// Writes go to the page cache of a regular file, whose lock admits one writer at a time.
    locks_to_write: bool,
    /// The file system supports `RWF_NOWAIT`: it fails a read with EAGAIN instead of waiting.
    /// Without that support io_uring is no use either. It assumes that a file that can be polled,
    /// as on FUSE, doesn't block, and blocks the event loop.
    nowait: bool,
    /// Whether to try reads with `RWF_NOWAIT`, and writes below. Some file systems support it for
    /// reads only.
    try_read: Cell<bool>,
    try_write: Cell<bool>,
}

impl File {
    /// Duplicates an open descriptor and inspects its file.
    pub fn new(fd: RawFd) -> Result<Self> {
        let descriptor = Descriptor::new(fd)?;
        let inspect = || {
            // Device nodes lie on a file system in memory too, so check for a regular file.
            let regular =
                FileType::from_raw_mode(fstat(&descriptor)?.st_mode) == FileType::RegularFile;
            // The type and size of this field depend on the platform, the magic number doesn't.
            let in_memory = regular && IN_MEMORY.contains(&(fstatfs(&descriptor)?.f_type as u32));
            let flags = fcntl_getfl(&descriptor)?;
            // Direct writes don't take the lock exclusively, and synchronous ones wait for the disk
            // without it, so several run concurrently.
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
            inspect().map_err(os(format!("inspect descriptor {fd}")))?;
        // A direct transfer with `RWF_NOWAIT` would still wait until it completes.
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

    /// The descriptor, for a job that runs asynchronously.
    pub fn descriptor(&self) -> Arc<Descriptor> {
        Arc::clone(&self.descriptor)
    }

    /// Whether io_uring runs this operation if it has to wait. The engine submits only transfers to
    /// it. For writes to the page cache our threads are faster, because io_uring uses one thread
    /// per file: 0.49 of a loop of pwrite in C, against 0.87 by our threads (32 in flight, 4 KiB,
    /// ext4).
    pub fn prefers_uring(&self, operation: Operation) -> bool {
        self.nowait
            && (operation == Operation::Read || operation == Operation::Write && self.direct)
    }

    /// Whether operations of this kind on the file run one at a time anyway, because of a lock.
    pub fn takes_one_at_a_time(&self, operation: Operation) -> bool {
        operation == Operation::Write && self.locks_to_write
    }

    /// Performs as much of a job as needs no disk. Returns true if the job is complete.
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
            // The kernel doesn't support the flag for this file, or not at all.
            Err(Errno::OPNOTSUPP | Errno::INVAL) => {
                may_try.set(false);
                false
            }
            outcome => job.take(outcome),
        }
    }
}

/// Whether reads support `RWF_NOWAIT`. The kernel checks that right after the permission to read.
fn can_fail_rather_than_wait(descriptor: &Descriptor) -> bool {
    let mut byte = 0u8;
    let mut probe = Job::default();
    probe.vectors.push(libc::iovec { iov_base: std::ptr::from_mut(&mut byte).cast(), iov_len: 1 });
    // O_DIRECT rejects 1-byte reads with EINVAL.
    matches!(probe.transfer(descriptor, libc::RWF_NOWAIT), Ok(_) | Err(Errno::AGAIN | Errno::INVAL))
}
