//! Locks on single bytes of a file that belong to the open file, not to the process (OFD locks, see
//! fcntl(2)). Node has no call for them.

use std::mem::zeroed;
use std::os::fd::RawFd;

use libc::{F_OFD_GETLK, F_OFD_SETLK, F_RDLCK, F_UNLCK, F_WRLCK, c_int, fcntl, flock};
use napi::bindgen_prelude::AsyncTask;
use napi::{Env, Task};
use napi_derive::napi;
use rustix::io::Errno;

use crate::errors::{Result, out_of_range};

/// The task that takes and checks locks. It runs on libuv's thread pool, because a network file
/// system asks its server.
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
        // `find` stops at the first result that isn't 0, because both iterators are lazy.
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

/// Takes a shared lock. Returns 0, or the byte if another open file holds an exclusive lock on it.
fn take(fd: RawFd, byte: u32) -> std::result::Result<u32, Errno> {
    match call(fd, F_OFD_SETLK, lock(byte, F_RDLCK)) {
        Ok(_) => Ok(0),
        Err(Errno::AGAIN | Errno::ACCESS) => Ok(byte),
        Err(errno) => Err(errno),
    }
}

/// Returns the byte if another open file holds a lock of any kind on it, else 0.
fn find_other(fd: RawFd, byte: u32) -> std::result::Result<u32, Errno> {
    let found = call(fd, F_OFD_GETLK, lock(byte, F_WRLCK))?;
    Ok(if c_int::from(found.l_type) == F_UNLCK { 0 } else { byte })
}

/// Describes a lock on one byte.
fn lock(byte: u32, kind: c_int) -> flock {
    // SAFETY: all fields of the struct are numbers, for which 0 is valid. The platform decides
    // which fields there are.
    let mut lock: flock = unsafe { zeroed() };
    // `l_whence` stays 0 (SEEK_SET), and so does `l_pid`, as the OFD commands demand.
    (lock.l_type, lock.l_start, lock.l_len) = (kind as _, byte as _, 1);
    lock
}

fn call(fd: RawFd, command: c_int, mut lock: flock) -> std::result::Result<flock, Errno> {
    // SAFETY: both commands take this struct and keep no pointer to it. If `fd` isn't open, the
    // kernel returns EBADF.
    match unsafe { fcntl(fd, command, &raw mut lock) } {
        -1 => Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)),
        _ => Ok(lock),
    }
}

/// Takes shared locks on the bytes `take`, then checks that no other open file has a lock on the
/// bytes `unlocked`. Resolves to 0, to the first byte with a conflicting lock, or to a negative
/// errno. The locks taken are kept until the open file is closed, also after a conflict.
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
