//! A queue of a TAP device without its JavaScript objects: sends and receives frames by batches.

use std::ffi::c_void;
use std::ptr::null_mut;
use std::sync::Arc;

use libc::iovec;
use rustix::io::Errno;

use super::header::{BYTES, Description};
use super::interface::Interface;
use super::table::Table;
use super::transfers::{Direction, Means, Outcome, Vectors};
use crate::bytes::Span;
use crate::errors::{Result, out_of_range};

/// Bytes between the places of received frames in memory. A frame has up to 65,549 bytes with a
/// VLAN tag. The place begins a page, so that a small frame lies in one page, which makes it one
/// grant copy. 17 pages rather than a power of two spread the frames over the processor's caches.
pub const PLACE: u32 = 17 << 12;

/// A queue of a TAP device.
pub struct Queue {
    interface: Interface,
    means: Means,
    table: Arc<Table>,
    headers: Vec<[u8; BYTES]>,
    vectors: Vec<Vectors>,
    outcomes: Vec<Outcome>,
    /// Number of frames that the next `read` tries to get with its first system call: one more than
    /// the last `read` got.
    expected: usize,
}

impl Queue {
    /// Makes a queue for up to `frames` frames per call.
    pub fn new(interface: Interface, frames: u32, calls: bool) -> Result<Self> {
        let count = frames as usize;
        let means = if calls { Means::Calls } else { Means::open(interface.device(), frames) };
        let nowhere = iovec { iov_base: null_mut(), iov_len: 0 };
        let mut queue = Self {
            interface,
            means,
            table: Arc::new(Table::new(frames)?),
            headers: vec![[0; BYTES]; count],
            vectors: vec![[nowhere; 2]; count],
            outcomes: vec![Ok(0); count],
            expected: 1,
        };
        for ([header, _], bytes) in queue.vectors.iter_mut().zip(&mut queue.headers) {
            *header = iovec { iov_base: bytes.as_mut_ptr().cast::<c_void>(), iov_len: BYTES };
        }
        Ok(queue)
    }

    /// The queue's interface.
    pub fn interface(&self) -> &Interface {
        &self.interface
    }

    /// The table that describes frames.
    pub fn table(&self) -> &Arc<Table> {
        &self.table
    }

    /// Whether a call takes one system call for all of its frames.
    pub fn by_ring(&self) -> bool {
        matches!(self.means, Means::Uring(_))
    }

    /// Sends the table's first `count` frames, which lie in `memory`; returns how many were sent.
    pub fn write(&mut self, memory: Span, count: u32) -> Result<u32> {
        self.check(count)?;
        let rows = (0..count).zip(&mut self.headers).zip(&mut self.vectors);
        for ((at, header), [_, frame]) in rows {
            let place = self.table.place(at);
            let (start, length) = place.unwrap_or_default();
            let base = memory.at(start, length).ok_or_else(|| {
                out_of_range(format!("frame {at} is outside the memory: {length} bytes at {start}"))
            })?;
            *frame = iovec { iov_base: base, iov_len: length as usize };
            *header = self.table.description(at).unwrap_or_default().header();
        }
        // SAFETY: every frame is inside JavaScript's memory, and no JavaScript runs meanwhile.
        let outcomes = unsafe { self.run(Direction::Write, 0..count as usize) };
        let sent = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
        let failed = outcomes.iter().find_map(|outcome| outcome.err());
        self.table.set_error(failed.map_or(0, Errno::raw_os_error));
        Ok(sent as u32)
    }

    /// Receives up to `count` frames, each into a place of its own in `memory`; returns how many.
    /// Describes them in the table.
    pub fn read(&mut self, memory: Span, count: u32) -> Result<u32> {
        self.check(count)?;
        for (at, [_, frame]) in (0..count).zip(&mut self.vectors) {
            let base = memory.at(at * PLACE, PLACE).ok_or_else(|| {
                out_of_range(format!("memory for {count} frames takes {} bytes", count * PLACE))
            })?;
            *frame = iovec { iov_base: base, iov_len: PLACE as usize };
        }
        let count = count as usize;
        let (mut tried, mut next) = (0, self.expected);
        while tried < count {
            let range = tried..count.min(tried + next);
            tried = range.end;
            // SAFETY: every place is inside JavaScript's memory, and no JavaScript runs meanwhile.
            let outcomes = unsafe { self.run(Direction::Read, range) };
            if outcomes.iter().any(|outcome| outcome.is_err()) {
                break;
            }
            next *= 2;
        }
        let received = describe(&self.table, &self.headers, self.outcomes.get(..tried));
        self.expected = received + 1;
        Ok(received as u32)
    }

    fn check(&self, count: u32) -> Result<()> {
        let most = self.table.frames();
        if count <= most {
            Ok(())
        } else {
            Err(out_of_range(format!("\"count\" expected an integer 0..{most}, got {count}")))
        }
    }

    /// Makes the transfers of a range of `vectors`; returns their outcomes.
    ///
    /// # Safety
    /// The vectors' memory must be accessible during the call.
    unsafe fn run(&mut self, direction: Direction, range: std::ops::Range<usize>) -> &[Outcome] {
        let device = self.interface.device();
        let vectors = self.vectors.get(range.clone()).unwrap_or_default();
        let outcomes = self.outcomes.get_mut(range).unwrap_or_default();
        // SAFETY: the caller vouches for the memory.
        unsafe { self.means.run((device, direction), vectors, outcomes) };
        outcomes
    }
}

/// Describes the received frames in the table, by the outcomes for their places; returns how many
/// there are. A frame may follow a failed outcome: it arrived after that attempt.
fn describe(table: &Table, headers: &[[u8; BYTES]], outcomes: Option<&[Outcome]>) -> usize {
    let (mut received, mut failed) = (0, None);
    for (place, (header, outcome)) in headers.iter().zip(outcomes.unwrap_or_default()).enumerate() {
        match *outcome {
            Ok(bytes) => {
                let length = bytes.saturating_sub(BYTES) as u32;
                let start = place as u32 * PLACE;
                table.set(received, (start, length), Description::of(*header));
                received += 1;
            }
            Err(Errno::AGAIN) => {}
            Err(errno) => failed = failed.or(Some(errno)),
        }
    }
    table.set_error(failed.map_or(0, Errno::raw_os_error));
    received as usize
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_that_arrives_after_a_failed_attempt_is_received() {
        let table = Table::new(4).unwrap();
        let mut headers = [[0; BYTES]; 4];
        headers[2] = Description { checksum: 1, ..Description::default() }.header();
        let outcomes = [Ok(BYTES + 60), Err(Errno::AGAIN), Ok(BYTES + 70), Err(Errno::BADFD)];
        assert_eq!(describe(&table, &headers, Some(&outcomes)), 2);
        assert_eq!((table.place(0), table.place(1)), (Some((0, 60)), Some((2 * PLACE, 70))));
        assert_eq!(table.description(1).unwrap().checksum, 1);
        assert_eq!(table.error(), Errno::BADFD.raw_os_error().unsigned_abs());
        assert_eq!(describe(&table, &headers, Some(&[Err(Errno::AGAIN)])), 0);
        assert_eq!(table.error(), 0);
    }
}
