//! The memory of a disk: a mapping of this process's own. Moving data is copying it, without a
//! system call, and never waits.
//!
//! It is anonymous and private, so that nobody can cut it. A file that is mapped can be truncated
//! by whoever may write to it, and its disk can fail: either is a SIGBUS at the next copy, and the
//! end of the process. A memfd sealed against shrinking can't be truncated, but to read what was
//! never written takes memory there, which it doesn't here, and under strict overcommit a copy that
//! finds no memory is a SIGBUS, where this mapping is refused when it is made.

use std::ffi::{c_int, c_void};
use std::ptr::{NonNull, null_mut};
use std::sync::{PoisonError, RwLock, RwLockReadGuard};

use libc::{iovec, size_t};
use rustix::io::Errno;
use rustix::mm::{
    Advice, MapFlags, MremapFlags, ProtFlags, madvise, mmap_anonymous, mremap, munmap,
};
use rustix::param::page_size;

use super::job::{Job, Operation};
use crate::counters::Token;

/// Of what is made zero while the lock is held, at multiples of it: some milliseconds, for which a
/// `resize` may have to wait.
const ZEROED_AT_ONCE: u64 = 64 << 20;

/// Bytes that several threads read and write at once, as those of a disk: who races gets any mix of
/// both.
pub struct Mapping {
    /// Held for reading while bytes are touched, for writing while the mapping is cut or moves.
    extent: RwLock<Extent>,
    _token: Token,
}

struct Extent {
    base: NonNull<c_void>,
    /// In bytes. The rest of its last page is zeros.
    length: u64,
}

// SAFETY: the address is that of memory of the process, which belongs to no thread and is freed
// once, by the last owner. All access to it is by `copy` and `fill`.
unsafe impl Send for Extent {}
// SAFETY: as above.
unsafe impl Sync for Extent {}

impl Mapping {
    /// Zeros, 1 byte or more, which take memory when they are written to.
    pub fn new(length: u64) -> Result<Self, Errno> {
        let bytes = whole_pages(length)?;
        let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
        // SAFETY: the kernel picks an unused address.
        let base = unsafe {
            mmap_anonymous(null_mut(), bytes, ProtFlags::READ | ProtFlags::WRITE, flags)
        }?;
        // A child would have all its page tables copied, and each write meanwhile its page.
        // SAFETY: just mapped, and nobody knows of it.
        let _ = unsafe { madvise(base, bytes, Advice::LinuxDontFork) };
        let base = NonNull::new(base).ok_or(Errno::NOMEM)?;
        Ok(Self { extent: RwLock::new(Extent { base, length }), _token: Token::image() })
    }

    /// Does all of a job.
    ///
    /// # Safety
    /// The memory of its vectors must be accessible, and writable if it is a read.
    pub unsafe fn perform(&self, job: &mut Job) {
        match job.operation {
            // What a job moves at most fits.
            // SAFETY: the caller vouches for the vectors.
            Operation::Read | Operation::Write => {
                job.result =
                    unsafe { self.transfer(job.operation, job.position, &job.vectors) } as i32
            }
            Operation::Discard | Operation::WriteZeroes => self.zero(job.position, job.length),
            Operation::Flush => {}
        }
    }

    /// Copies between the bytes from `position` on and the vectors. Returns how many, fewer than
    /// asked for only at the end.
    ///
    /// # Safety
    /// As for `perform`.
    pub unsafe fn transfer(&self, operation: Operation, position: u64, vectors: &[iovec]) -> usize {
        let extent = self.extent();
        let mut moved = 0;
        for vector in vectors {
            let (at, bytes) =
                extent.clip(position.saturating_add(moved as u64), vector.iov_len as u64);
            let (into, from) = if operation == Operation::Read {
                (vector.iov_base, at)
            } else {
                (at, vector.iov_base)
            };
            // SAFETY: `bytes` bytes at `at` are mapped for as long as `extent` is held, and the
            // caller vouches for the others.
            unsafe { copy(into, from, bytes) };
            moved += bytes;
        }
        moved
    }

    /// Makes a range read as zeros, as far as it exists, and gives back the memory of its whole
    /// pages.
    pub fn zero(&self, position: u64, length: u64) {
        let end = position.saturating_add(length).min(self.extent().length);
        let mut at = position;
        while at < end {
            let next = end.min((at / ZEROED_AT_ONCE + 1) * ZEROED_AT_ONCE);
            self.zero_piece(at, next - at);
            at = next;
        }
    }

    fn zero_piece(&self, position: u64, length: u64) {
        let extent = self.extent();
        let (at, bytes) = extent.clip(position, length);
        let head = at.addr().wrapping_neg() % page_size();
        let whole = bytes.saturating_sub(head) / page_size() * page_size();
        if whole == 0 {
            // SAFETY: mapped for as long as `extent` is held.
            return unsafe { fill(at, bytes) };
        }
        let (first, tail) = (at.wrapping_byte_add(head), at.wrapping_byte_add(head + whole));
        // SAFETY: as above, and the pages are our own: reads of them give 0 from now on.
        unsafe {
            fill(at, head);
            // Locked memory (mlockall) can't be given back.
            if madvise(first, whole, Advice::LinuxDontNeed).is_err() {
                fill(first, whole);
            }
            fill(tail, bytes - head - whole);
        }
    }

    /// Cuts it, or lengthens it by zeros. If that fails, it is as it was.
    pub fn resize(&self, length: u64) -> Result<(), Errno> {
        let mut extent = self.extent.write().unwrap_or_else(PoisonError::into_inner);
        let (old, new) = (whole_pages(extent.length)?, whole_pages(length)?);
        if old != new {
            // SAFETY: our own mapping, which nobody touches without `extent`.
            let moved = unsafe { mremap(extent.base.as_ptr(), old, new, MremapFlags::MAYMOVE) }?;
            extent.base = NonNull::new(moved).ok_or(Errno::NOMEM)?;
        }
        if length < extent.length {
            let tail = extent.base.as_ptr().wrapping_byte_add(length as usize);
            // SAFETY: the rest of the last page.
            unsafe { fill(tail, new - length as usize) };
        }
        extent.length = length;
        Ok(())
    }

    fn extent(&self) -> RwLockReadGuard<'_, Extent> {
        self.extent.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Extent {
    /// Where `position` is, and how many of `length` bytes there are.
    fn clip(&self, position: u64, length: u64) -> (*mut c_void, usize) {
        let at = position.min(self.length);
        (self.base.as_ptr().wrapping_byte_add(at as usize), length.min(self.length - at) as usize)
    }
}

impl Drop for Extent {
    fn drop(&mut self) {
        let Ok(bytes) = whole_pages(self.length) else { return };
        // SAFETY: the last owner is gone.
        let _ = unsafe { munmap(self.base.as_ptr(), bytes) };
    }
}

fn whole_pages(length: u64) -> Result<usize, Errno> {
    usize::try_from(length)
        .ok()
        .and_then(|length| length.checked_next_multiple_of(page_size()))
        .ok_or(Errno::NOMEM)
}

// Another thread may change the bytes meanwhile, and those of a guest's page the guest. That is no
// business of the compiler's as long as it doesn't know what is done with them: it is told to look
// up which function it calls.
static MEMCPY: unsafe extern "C" fn(*mut c_void, *const c_void, size_t) -> *mut c_void =
    libc::memcpy;
static MEMSET: unsafe extern "C" fn(*mut c_void, c_int, size_t) -> *mut c_void = libc::memset;

/// # Safety
/// `bytes` bytes at both addresses are accessible, and don't overlap.
unsafe fn copy(into: *mut c_void, from: *const c_void, bytes: usize) {
    // SAFETY: a function's address is read, and the caller vouches for what it is called with.
    unsafe { (&raw const MEMCPY).read_volatile()(into, from, bytes) };
}

/// Writes zeros.
///
/// # Safety
/// `bytes` bytes at the address are accessible.
unsafe fn fill(at: *mut c_void, bytes: usize) {
    // SAFETY: as in `copy`.
    unsafe { (&raw const MEMSET).read_volatile()(at, 0, bytes) };
}

#[cfg(test)]
#[path = "mapping_test.rs"]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests;
