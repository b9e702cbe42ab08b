//! Locks on single bytes of a file that belong to the open file, not to the process (OFD locks, see
//! fcntl(2)): Node has no call for them.

use std::mem::zeroed;
use std::os::fd::RawFd;

use libc::{F_OFD_GETLK, F_OFD_SETLK, F_RDLCK, F_UNLCK, F_WRLCK, c_int, fcntl, flock};
use napi::bindgen_prelude::AsyncTask;
use napi::{Env, Task};
use napi_derive::napi;
use rustix::io::Errno;

use crate::errors::{Result, out_of_range};

/// Runs on libuv's thread pool: a network file system asks its server.
pub struct LockBytes {
    fd: RawFd,
    take: Vec<u32>,
    unlocked: Vec<u32>,
}

impl Task for LockBytes {
    type Output = i32;
    type JsValue = i32;

    fn compute(&mut self) -> napi::Result<i32> {
        let taken = self.take.iter().map(|&byte| take(self.fd, byte));
        let others = self.unlocked.iter().map(|&byte| find_other(self.fd, byte));
        // The first that isn't 0 ends it.
        Ok(match taken.chain(others).find(|result| *result != Ok(0)) {
            Some(Ok(byte)) => byte as i32,
            Some(Err(errno)) => -errno.raw_os_error(),
            None => 0,
        })
    }

    fn resolve(&mut self, _: Env, result: i32) -> napi::Result<i32> {
        Ok(result)
    }
}

/// Takes a shared lock. Returns 0, or the byte if another open file has an exclusive one.
fn take(fd: RawFd, byte: u32) -> std::result::Result<u32, Errno> {
    match call(fd, F_OFD_SETLK, lock(byte, F_RDLCK)) {
        Ok(_) => Ok(0),
        Err(Errno::AGAIN | Errno::ACCESS) => Ok(byte),
        Err(errno) => Err(errno),
    }
}

/// Returns the byte if another open file has a lock of any kind on it, else 0.
fn find_other(fd: RawFd, byte: u32) -> std::result::Result<u32, Errno> {
    let found = call(fd, F_OFD_GETLK, lock(byte, F_WRLCK))?;
    Ok(if c_int::from(found.l_type) == F_UNLCK { 0 } else { byte })
}

/// A lock on one byte.
fn lock(byte: u32, kind: c_int) -> flock {
    // SAFETY: numbers alone, for which 0 is a value. The struct's fields depend on the platform.
    let mut lock: flock = unsafe { zeroed() };
    // Whence is SEEK_SET, which is 0, and the process 0, as these commands demand.
    (lock.l_type, lock.l_start, lock.l_len) = (kind as _, byte as _, 1);
    lock
}

fn call(fd: RawFd, command: c_int, mut lock: flock) -> std::result::Result<flock, Errno> {
    // SAFETY: both commands take this struct and keep nothing of it. Of a number that isn't open
    // the kernel says EBADF.
    match unsafe { fcntl(fd, command, &raw mut lock) } {
        -1 => Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)),
        _ => Ok(lock),
    }
}

/// Takes shared locks on some bytes, then looks whether another open file has locks on others.
/// Resolves to 0, to the first byte where another's lock is in the way, or to a negative errno.
/// What was taken stays taken until the open file is closed.
#[napi(catch_unwind)]
pub fn lock_bytes(fd: i32, take: Vec<u32>, unlocked: Vec<u32>) -> Result<AsyncTask<LockBytes>> {
    if fd < 0 {
        return Err(out_of_range(format!("locks on descriptor {fd}: expected 0 or more")));
    }
    let bytes = 1..=i32::MAX as u32;
    if let Some(byte) = take.iter().chain(&unlocked).find(|byte| !bytes.contains(byte)) {
        return Err(out_of_range(format!("a lock on byte {byte}: expected 1..{}", i32::MAX)));
    }
    Ok(AsyncTask::new(LockBytes { fd, take, unlocked }))
}
