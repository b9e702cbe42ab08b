//! Many reads or writes of a TAP device with one system call, by io_uring. Where io_uring is
//! refused, there is a system call for each.
//!
//! Transfers don't wait, so the kernel completes each while it is submitted, in order. No transfer
//! is in flight after the call.

use io_uring::types::Fixed;
use io_uring::{IoUring, opcode, squeue};
use libc::{RWF_NOWAIT, iovec};
use rustix::io::Errno;

use crate::device::Device;

/// The vectors of a transfer: header and frame.
pub type Vectors = [iovec; 2];
/// Bytes that were moved, or an errno.
pub type Outcome = Result<usize, Errno>;

/// Which way frames go.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the device to memory.
    Read,
    /// From memory to the device.
    Write,
}

/// An io_uring with a device.
pub struct Ring {
    ring: IoUring,
}

impl Drop for Ring {
    fn drop(&mut self) {
        // The kernel ends a ring some time after it is closed, and the device with it.
        let _ = self.ring.submitter().unregister_files();
    }
}

/// How transfers are made.
pub enum Means {
    /// One system call for all.
    Uring(Box<Ring>),
    /// A system call for each.
    Calls,
}

impl Means {
    /// Opens an io_uring for `frames` transfers of a device, if the system allows that and the
    /// device's driver knows `RWF_NOWAIT`. TAP devices do since Linux 6.4. Without the flag, a
    /// transfer waits for the device to be ready, though the device is nonblocking.
    pub fn open(device: &Device, frames: u32) -> Self {
        let open = || {
            if !knows_nowait(device) {
                return Err(Errno::OPNOTSUPP.into());
            }
            let mut ring = IoUring::new(frames.next_power_of_two())?;
            // A filter may allow only the setup call, so one operation is submitted as a test.
            // SAFETY: the nop takes no pointer.
            let _ = unsafe { ring.submission().push(&opcode::Nop::new().build()) };
            ring.submit_and_wait(1)?;
            ring.completion().next();
            ring.submitter().register_files(&[device.raw()])?;
            std::io::Result::Ok(Ring { ring })
        };
        open().map_or(Self::Calls, |ring| Self::Uring(Box::new(ring)))
    }

    /// Makes a transfer for each of `vectors` and sets its outcome. Reads need not go on after a
    /// failure: the outcomes are EAGAIN then.
    ///
    /// # Safety
    /// The vectors' memory must be accessible during the call.
    pub unsafe fn run(
        &mut self,
        (device, direction): (&Device, Direction),
        vectors: &[Vectors],
        outcomes: &mut [Outcome],
    ) {
        outcomes.fill(Err(Errno::AGAIN));
        let queued = match self {
            // SAFETY: the caller vouches for the memory.
            Self::Uring(ring) => unsafe { run_ring(ring, direction, vectors, outcomes) },
            // SAFETY: the caller vouches for the memory.
            Self::Calls => unsafe { run_calls(device, direction, vectors, outcomes) },
        };
        if let Err(errno) = queued {
            *self = Self::Calls;
            outcomes
                .iter_mut()
                .filter(|outcome| **outcome == Err(Errno::AGAIN))
                .for_each(|outcome| *outcome = Err(errno));
        }
    }
}

/// Whether the device's driver knows `RWF_NOWAIT`.
fn knows_nowait(device: &Device) -> bool {
    let mut byte = 0u8;
    let vector = iovec { iov_base: (&raw mut byte).cast(), iov_len: 1 };
    // The driver refuses a frame that is shorter than its header, unless it refuses the flag first.
    // SAFETY: the vector is one byte of this function.
    let written = unsafe { libc::pwritev2(device.raw(), &raw const vector, 1, -1, RWF_NOWAIT) };
    written >= 0 || last_errno() != Errno::OPNOTSUPP
}

fn last_errno() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}

/// Makes the transfers by io_uring. Fails if the kernel refuses some: none is in flight then.
///
/// # Safety
/// As that of `Means::run`.
unsafe fn run_ring(
    Ring { ring }: &mut Ring,
    direction: Direction,
    vectors: &[Vectors],
    outcomes: &mut [Outcome],
) -> Result<(), Errno> {
    let mut submission = ring.submission();
    let mut queued = 0;
    for (at, [first, ..]) in vectors.iter().enumerate() {
        let (file, first) = (Fixed(0), std::ptr::from_ref(first));
        let entry: squeue::Entry = match direction {
            Direction::Read => {
                opcode::Readv::new(file, first, 2).offset(u64::MAX).rw_flags(RWF_NOWAIT).build()
            }
            Direction::Write => {
                opcode::Writev::new(file, first, 2).offset(u64::MAX).rw_flags(RWF_NOWAIT).build()
            }
        };
        // SAFETY: the caller vouches for the vectors and their memory, and the transfers complete
        // within this function.
        queued += usize::from(unsafe { submission.push(&entry.user_data(at as u64)) }.is_ok());
    }
    drop(submission);
    let mut completed = 0;
    while completed < queued {
        let submitted = ring.submit_and_wait(queued - completed);
        for completion in ring.completion() {
            completed += 1;
            if let Some(outcome) = outcomes.get_mut(completion.user_data() as usize) {
                *outcome = usize::try_from(completion.result())
                    .map_err(|_| Errno::from_raw_os_error(-completion.result()));
            }
        }
        if let Err(error) = submitted {
            let errno = Errno::from_io_error(&error).unwrap_or(Errno::IO);
            let in_flight = queued - completed - ring.submission().len();
            if errno != Errno::INTR && in_flight == 0 {
                return Err(errno);
            }
        }
    }
    Ok(())
}

/// Makes the transfers by a system call for each.
///
/// # Safety
/// As that of `Means::run`.
unsafe fn run_calls(
    device: &Device,
    direction: Direction,
    vectors: &[Vectors],
    outcomes: &mut [Outcome],
) -> Result<(), Errno> {
    let fd = device.raw();
    for ([first, ..], outcome) in vectors.iter().zip(outcomes) {
        let first = std::ptr::from_ref(first);
        // SAFETY: the caller vouches for the vectors and their memory.
        let moved = unsafe {
            match direction {
                Direction::Read => libc::readv(fd, first, 2),
                Direction::Write => libc::writev(fd, first, 2),
            }
        };
        *outcome = usize::try_from(moved).map_err(|_| last_errno());
        if direction == Direction::Read && outcome.is_err() {
            break;
        }
    }
    Ok(())
}
