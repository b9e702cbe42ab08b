//! Opens character devices and performs ioctls on them.

use std::os::fd::OwnedFd;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::ioctl::{self, Ioctl, IoctlOutput, Opcode};

use crate::counters::Token;
use crate::errors::{Result, os};

/// A device file, closed when dropped.
pub struct Device {
    fd: OwnedFd,
    _token: Token,
}

impl Device {
    /// Opens a device for reading and writing, nonblocking, not inherited by child processes.
    pub fn open(path: &str) -> Result<Self> {
        let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
        let fd =
            rustix::fs::open(path, flags, Mode::empty()).map_err(os(format!("open \"{path}\"")))?;
        Ok(Self { fd, _token: Token::fd() })
    }

    /// The descriptor's number, for libuv.
    pub fn raw(&self) -> RawFd {
        self.fd.as_raw_fd()
    }

    /// Performs an ioctl that reads `argument` and may write to it.
    ///
    /// # Safety
    /// `T` must begin with the struct that `opcode` takes. Any pointer in it must be valid for what
    /// the driver does with it.
    pub unsafe fn ioctl<T: ?Sized>(
        &self,
        opcode: Opcode,
        argument: &mut T,
    ) -> std::result::Result<u32, Errno> {
        // SAFETY: as the caller's.
        unsafe { call(&self.fd, opcode, argument) }
    }
}

/// Performs an ioctl on a descriptor, as `Device::ioctl`.
///
/// # Safety
/// As that of `Device::ioctl`.
pub unsafe fn call<T: ?Sized>(
    fd: impl AsFd,
    opcode: Opcode,
    argument: &mut T,
) -> std::result::Result<u32, Errno> {
    let call = Call { opcode, argument: std::ptr::from_mut(argument).cast() };
    // SAFETY: the caller vouches that argument and opcode belong together.
    unsafe { ioctl::ioctl(fd, call) }
}

impl AsFd for Device {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

struct Call {
    opcode: Opcode,
    argument: *mut std::ffi::c_void,
}

// SAFETY: `as_ptr` returns the pointer that the caller of `Device::ioctl` vouched for. The output
// is the plain return value, which isn't negative after success.
unsafe impl Ioctl for Call {
    type Output = u32;
    const IS_MUTATING: bool = true;

    fn opcode(&self) -> Opcode {
        self.opcode
    }

    fn as_ptr(&mut self) -> *mut std::ffi::c_void {
        self.argument
    }

    unsafe fn output_from_ptr(
        out: IoctlOutput,
        _: *mut std::ffi::c_void,
    ) -> rustix::io::Result<u32> {
        Ok(out.unsigned_abs())
    }
}
