//! An eventfd by which other threads and io_uring wake the event loop.

use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};

use crate::errors::{Result, os};

/// A flag that is set or not, and a descriptor to wait on.
pub struct Event(OwnedFd);

impl Event {
    /// Makes an event that isn't signalled.
    pub fn new() -> Result<Self> {
        Ok(Self(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).map_err(os("eventfd"))?))
    }

    /// Wakes the thread that waits for the event. May be called from any thread.
    pub fn signal(&self) {
        // The write fails only after 2^64 signals without a `clear`.
        let _ = rustix::io::write(&self.0, &1u64.to_ne_bytes());
    }

    /// Clears the signal. Check for completed jobs after this call, not before it.
    pub fn clear(&self) {
        // Without a signal the read returns EAGAIN: there is nothing to clear.
        let _ = rustix::io::read(&self.0, &mut [0; 8]);
    }

    /// Blocks until the event is signalled, or less long.
    pub fn wait(&self) {
        // A Unix signal ends the poll early; the caller then checks for completed jobs in vain.
        let _ = poll(&mut [PollFd::new(&self.0, PollFlags::IN)], None);
    }
}

impl AsRawFd for Event {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}
