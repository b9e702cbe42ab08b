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
    /// Whether the file lies on a file system in memory. Its calls never wait, and it doesn't
    /// support `RWF_NOWAIT`.
    in_memory: bool,
    /// Whether the file was opened with `O_DIRECT`.
    direct: bool,
    /// Whether writes go to the page cache of a regular file, whose lock admits one writer at a
    /// time.
    locks_to_write: bool,
    /// Whether the file system supports `RWF_NOWAIT`, which fails a read with EAGAIN instead of
    /// waiting. Files without that support aren't given to io_uring: it assumes that a file that
    /// can be polled, as on FUSE, doesn't block, and would block the event loop.
    nowait: bool,
    /// Whether to try reads with `RWF_NOWAIT`; `try_write` is the same for writes. Some file
    /// systems support the flag for reads only.
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
            // Direct writes don't take the file's lock exclusively, and synchronous ones release it
            // while they wait for the disk. So several of them can run concurrently.
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
        // `RWF_NOWAIT` is of no use for direct transfers: the call would still wait until they
        // complete.
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

    /// The file's descriptor, for a job that runs asynchronously.
    pub fn descriptor(&self) -> Arc<Descriptor> {
        Arc::clone(&self.descriptor)
    }

    /// Whether io_uring runs this operation on the file if the operation has to wait. The engine
    /// submits only transfers to io_uring. Writes to the page cache run on the engine's threads,
    /// because io_uring uses one thread per file: it reaches 0.49 of a loop of pwrite in C, the
    /// engine's threads 0.87 (32 in flight, 4 KiB, ext4).
    pub fn prefers_uring(&self, operation: Operation) -> bool {
        self.nowait
            && (operation == Operation::Read || operation == Operation::Write && self.direct)
    }

    /// Whether the file's lock makes operations of this kind run one at a time.
    pub fn takes_one_at_a_time(&self, operation: Operation) -> bool {
        operation == Operation::Write && self.locks_to_write
    }

    /// Performs the part of a job that needs no disk. Returns true if the job is complete.
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
            // The kernel doesn't support the flag for this file, or for any file.
            Err(Errno::OPNOTSUPP | Errno::INVAL) => {
                may_try.set(false);
                false
            }
            outcome => job.take(outcome),
        }
    }
}

/// Whether the file's reads support `RWF_NOWAIT`. The kernel checks the flag right after the
/// permission to read.
fn can_fail_rather_than_wait(descriptor: &Descriptor) -> bool {
    let mut byte = 0u8;
    let mut probe = Job::default();
    probe.vectors.push(libc::iovec { iov_base: std::ptr::from_mut(&mut byte).cast(), iov_len: 1 });
    // A file that is opened with O_DIRECT rejects this 1-byte read with EINVAL, after it has
    // accepted the flag.
    matches!(probe.transfer(descriptor, libc::RWF_NOWAIT), Ok(_) | Err(Errno::AGAIN | Errno::INVAL))
}
