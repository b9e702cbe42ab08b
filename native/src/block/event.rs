//! An eventfd: what is done beside the event loop wakes it by this.

use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};

use crate::errors::{Result, os};

/// Signalled or not.
pub struct Event(OwnedFd);

impl Event {
    /// Not signalled.
    pub fn new() -> Result<Self> {
        Ok(Self(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).map_err(os("eventfd"))?))
    }

    /// Wakes who waits. From any thread.
    pub fn signal(&self) {
        // Fails only when it has been signalled 2^64 times.
        let _ = rustix::io::write(&self.0, &1u64.to_ne_bytes());
    }

    /// Takes the signal back. To be followed by a look at what may be done.
    pub fn clear(&self) {
        // Without a signal there is nothing to read.
        let _ = rustix::io::read(&self.0, &mut [0; 8]);
    }

    /// Blocks until signalled, or a bit less.
    pub fn wait(&self) {
        // Interrupted by a signal, the caller looks once too often.
        let _ = poll(&mut [PollFd::new(&self.0, PollFlags::IN)], None);
    }
}

impl AsRawFd for Event {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}
