//! Discards a range of a disk image: Node has no call for it.

use std::os::fd::{BorrowedFd, RawFd};

use napi::bindgen_prelude::AsyncTask;
use napi::{Env, Task};
use napi_derive::napi;
use rustix::fs::{FallocateFlags, FileType, fallocate, fstat};
use rustix::io::Errno;
use rustix::ioctl::{Opcode, Setter, ioctl, opcode};

use crate::errors::{Result, out_of_range};

/// `BLKDISCARD` of include/uapi/linux/fs.h. Argument: first byte and number of bytes, 64 bits each.
const BLKDISCARD: Opcode = opcode::none(0x12, 119);
/// `BLKZEROOUT`, with the same argument.
const BLKZEROOUT: Opcode = opcode::none(0x12, 127);

/// The task that discards a range. It runs on libuv's thread pool, because a file system may have
/// to wait for its journal.
pub struct Discard {
    fd: RawFd,
    offset: u64,
    length: u64,
}

impl Task for Discard {
    type Output = i32;
    type JsValue = i32;

    fn compute(&mut self) -> napi::Result<i32> {
        // SAFETY: the number isn't negative, and the caller keeps it open until the promise
        // settles. If it isn't open, the kernel returns EBADF.
        let fd = unsafe { BorrowedFd::borrow_raw(self.fd) };
        Ok(discard_range(fd, self.offset, self.length)
            .map_or_else(|errno| -errno.raw_os_error(), |()| 0))
    }

    fn resolve(&mut self, _: Env, result: i32) -> napi::Result<i32> {
        Ok(result)
    }
}

/// Discards a range. A file's range reads as zeros afterwards; a block device's may read as
/// anything.
pub fn discard_range(fd: BorrowedFd<'_>, offset: u64, length: u64) -> rustix::io::Result<()> {
    if !is_block_device(fd)? {
        return fallocate(
            fd,
            FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE,
            offset,
            length,
        );
    }
    // SAFETY: the argument is what BLKDISCARD takes, and the kernel only reads it.
    unsafe { ioctl(fd, Setter::<BLKDISCARD, [u64; 2]>::new([offset, length])) }
}

/// Makes a range read as zeros. A file keeps the range's blocks allocated if the file system can do
/// that.
pub fn zero_range(fd: BorrowedFd<'_>, offset: u64, length: u64) -> rustix::io::Result<()> {
    if is_block_device(fd)? {
        // SAFETY: the argument is what BLKZEROOUT takes, and the kernel only reads it.
        return unsafe { ioctl(fd, Setter::<BLKZEROOUT, [u64; 2]>::new([offset, length])) };
    }
    match fallocate(fd, FallocateFlags::ZERO_RANGE | FallocateFlags::KEEP_SIZE, offset, length) {
        Err(Errno::OPNOTSUPP) => discard_range(fd, offset, length),
        result => result,
    }
}

fn is_block_device(fd: BorrowedFd<'_>) -> rustix::io::Result<bool> {
    Ok(FileType::from_raw_mode(fstat(fd)?.st_mode) == FileType::BlockDevice)
}

/// Punches a hole into a file, or discards sectors of a block device. Resolves to 0 or to a
/// negative errno.
#[napi(catch_unwind)]
pub fn discard(fd: i32, offset: i64, length: i64) -> Result<AsyncTask<Discard>> {
    let [Ok(offset), Ok(length)] = [u64::try_from(offset), u64::try_from(length)] else {
        return Err(out_of_range(format!(
            "discard of {length} bytes at {offset}: expected none negative"
        )));
    };
    if fd < 0 {
        return Err(out_of_range(format!("discard on descriptor {fd}: expected 0 or more")));
    }
    Ok(AsyncTask::new(Discard { fd, offset, length }))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The expected values were printed by a C program that includes linux/fs.h.
    #[test]
    fn numbers_are_those_of_the_header() {
        assert_eq!((BLKDISCARD, BLKZEROOUT), (0x1277, 0x127f));
    }
}
