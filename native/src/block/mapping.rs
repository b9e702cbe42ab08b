//! A disk image in memory: an anonymous mapping of this process. Transfers are memory copies: they
//! need no system call and never wait.
//!
//! The mapping is anonymous and private, so nobody can truncate it. A mapped file can be truncated
//! by anyone who may write to it, and its disk can fail. In both cases the next copy raises SIGBUS,
//! which ends the process. A memfd that is sealed against shrinking can't be truncated. But reading
//! its unwritten pages allocates memory, and with strict overcommit a copy that finds no memory
//! raises SIGBUS. This mapping allocates nothing for such reads, and with strict overcommit it is
//! refused when it is made.

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

/// Bytes after which `zero` releases its lock for a moment. Zeroing this many takes some
/// milliseconds, which a `resize` may have to wait.
const ZEROED_AT_ONCE: u64 = 64 << 20;

/// Bytes that several threads read and write concurrently. As on a disk, racing accesses may see
/// any mix of old and new bytes.
pub struct Mapping {
    /// Address and length. Locked for reading while bytes are accessed, and for writing while the
    /// mapping is resized or moved.
    extent: RwLock<Extent>,
    _token: Token,
}

struct Extent {
    base: NonNull<c_void>,
    /// Length in bytes. The last page is filled up with zeros.
    length: u64,
}

// SAFETY: the address points to process memory, which belongs to no thread. The last owner frees
// that memory, once. Every access goes through `copy` and `fill`.
unsafe impl Send for Extent {}
// SAFETY: as above.
unsafe impl Sync for Extent {}

impl Mapping {
    /// Makes a mapping of `length` zeros, 1 byte or more. A page takes memory once it is written.
    pub fn new(length: u64) -> Result<Self, Errno> {
        let bytes = whole_pages(length)?;
        let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
        // SAFETY: the kernel picks an unused address.
        let base = unsafe {
            mmap_anonymous(null_mut(), bytes, ProtFlags::READ | ProtFlags::WRITE, flags)
        }?;
        // A fork would copy the page tables, and then each written page. SAFETY: the mapping was
        // made just now, and no other code has its address.
        let _ = unsafe { madvise(base, bytes, Advice::LinuxDontFork) };
        let base = NonNull::new(base).ok_or(Errno::NOMEM)?;
        Ok(Self { extent: RwLock::new(Extent { base, length }), _token: Token::image() })
    }

    /// Performs a whole job.
    ///
    /// # Safety
    /// The memory of the job's vectors must be accessible, and writable if the job is a read.
    pub unsafe fn perform(&self, job: &mut Job) {
        match job.operation {
            Operation::Read | Operation::Write => {
                // The count fits an i32, because the engine limits the bytes of a job.
                job.result =
                    // SAFETY: the caller vouches for the vectors.
                    unsafe { self.transfer(job.operation, job.position, &job.vectors) } as i32
            }
            Operation::Discard | Operation::WriteZeroes => self.zero(job.position, job.length),
            Operation::Flush => {}
        }
    }

    /// Copies between the vectors and the mapping from `position` on. Returns the number of bytes
    /// copied, which is less than the vectors' only at the end of the mapping.
    ///
    /// # Safety
    ///
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
            // SAFETY: `bytes` bytes at `at` stay mapped while `extent` is held. The caller vouches
            // for the vector.
            unsafe { copy(into, from, bytes) };
            moved += bytes;
        }
        moved
    }

    /// Makes a range read as zeros, up to the end of the mapping. Frees the memory of its whole
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
            // SAFETY: the bytes stay mapped while `extent` is held.
            return unsafe { fill(at, bytes) };
        }
        let (first, tail) = (at.wrapping_byte_add(head), at.wrapping_byte_add(head + whole));
        // SAFETY: as above. The pages are our own, and they read as zeros afterwards.
        unsafe {
            fill(at, head);
            // Locked memory (mlockall) can't be freed, so write zeros to it.
            if madvise(first, whole, Advice::LinuxDontNeed).is_err() {
                fill(first, whole);
            }
            fill(tail, bytes - head - whole);
        }
    }

    /// Truncates the mapping, or extends it with zeros. On failure it stays unchanged.
    pub fn resize(&self, length: u64) -> Result<(), Errno> {
        let mut extent = self.extent.write().unwrap_or_else(PoisonError::into_inner);
        let (old, new) = (whole_pages(extent.length)?, whole_pages(length)?);
        if old != new {
            // SAFETY: this is our own mapping, and nobody accesses it without `extent`.
            let moved = unsafe { mremap(extent.base.as_ptr(), old, new, MremapFlags::MAYMOVE) }?;
            extent.base = NonNull::new(moved).ok_or(Errno::NOMEM)?;
        }
        if length < extent.length {
            let tail = extent.base.as_ptr().wrapping_byte_add(length as usize);
            // SAFETY: this is the rest of the last page.
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
    /// Address of `position`, and how many of `length` bytes lie before the end.
    fn clip(&self, position: u64, length: u64) -> (*mut c_void, usize) {
        let at = position.min(self.length);
        (self.base.as_ptr().wrapping_byte_add(at as usize), length.min(self.length - at) as usize)
    }
}

impl Drop for Extent {
    fn drop(&mut self) {
        let Ok(bytes) = whole_pages(self.length) else { return };
        // SAFETY: this is the last owner.
        let _ = unsafe { munmap(self.base.as_ptr(), bytes) };
    }
}

fn whole_pages(length: u64) -> Result<usize, Errno> {
    usize::try_from(length)
        .ok()
        .and_then(|length| length.checked_next_multiple_of(page_size()))
        .ok_or(Errno::NOMEM)
}

// `memcpy` and `memset`, called through a pointer that is read at run time. Another thread or a
// guest may change the bytes during the copy. The compiler can't know which function is called, so
// it can assume nothing about those bytes.
static MEMCPY: unsafe extern "C" fn(*mut c_void, *const c_void, size_t) -> *mut c_void =
    libc::memcpy;
static MEMSET: unsafe extern "C" fn(*mut c_void, c_int, size_t) -> *mut c_void = libc::memset;

/// Copies memory.
///
/// # Safety
/// `bytes` bytes at both addresses must be accessible and must not overlap.
unsafe fn copy(into: *mut c_void, from: *const c_void, bytes: usize) {
    // SAFETY: this reads a function's address. The caller vouches for the arguments.
    unsafe { (&raw const MEMCPY).read_volatile()(into, from, bytes) };
}

/// Writes zeros.
///
/// # Safety
/// `bytes` bytes at the address must be accessible.
unsafe fn fill(at: *mut c_void, bytes: usize) {
    // SAFETY: as in `copy`.
    unsafe { (&raw const MEMSET).read_volatile()(at, 0, bytes) };
}

#[cfg(test)]
#[path = "mapping_test.rs"]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests;
