//! The descriptor of a disk image, kept open by the jobs that use it.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use rustix::io::fcntl_dupfd_cloexec;

use crate::counters::Token;
use crate::errors::{Result, os, out_of_range};

/// A duplicate of an image's descriptor, owned by the engine and closed with the last job that uses
/// it. JavaScript may close its own descriptor, whose number may then name another file.
pub struct Descriptor {
    fd: OwnedFd,
    _token: Token,
}

impl Descriptor {
    /// Duplicates an open descriptor.
    pub fn new(fd: RawFd) -> Result<Self> {
        if fd < 0 {
            return Err(out_of_range(format!("\"fd\" expected an integer 0.., got {fd}")));
        }
        // SAFETY: the number isn't negative and is used only during this call. If no such
        // descriptor is open, the kernel returns EBADF.
        let given = unsafe { BorrowedFd::borrow_raw(fd) };
        let fd = fcntl_dupfd_cloexec(given, 0).map_err(os(format!("dup of descriptor {fd}")))?;
        Ok(Self { fd, _token: Token::fd() })
    }
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
