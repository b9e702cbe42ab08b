//! The arena's address range. All of its pages stay accessible from `reserve` until the value is
//! dropped. A page changes only between anonymous memory and a device mapping.
//!
//! No part of the range is ever passed to `munmap`: JavaScript keeps views of the whole range, and
//! a load from a hole ends the process. One hole can't be avoided. When a driver refuses an mmap
//! with MAP_FIXED, Linux has already removed the old mapping (mmap_region unmaps before it calls
//! the driver). A peer can cause this by sending a bad grant reference. `map_device` fills the hole
//! with MAP_FIXED_NOREPLACE. If another thread's mmap has landed in the hole, overwriting that
//! mapping would corrupt the thread's memory, so these pages are never used again. (An mmap that
//! fails before the driver is called leaves no hole. With a device open for reading and writing,
//! only ENOMEM does that. These pages aren't used again either.)
//!
//! A child process inherits no page of the range, for two reasons. A fork makes anonymous pages
//! copy-on-write, so a direct read (O_DIRECT) in flight could fill the child's page instead of the
//! parent's; open(2) warns of this. And a child that inherits a gntdev mapping, even just until
//! execve, keeps grants mapped that the parent has unmapped.

use std::ffi::c_void;
use std::os::fd::AsFd;
use std::ptr::NonNull;

use rustix::io::Errno;
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap, mmap_anonymous, munmap};

use crate::counters::Token;

/// log2 of the page size.
pub const PAGE_SHIFT: u32 = 12;
/// Bytes of a page.
pub const PAGE_SIZE: u32 = 1 << PAGE_SHIFT;

/// Anonymous memory that takes no memory until touched, and reserves no swap.
const ANONYMOUS: MapFlags = MapFlags::PRIVATE.union(MapFlags::NORESERVE);
const READ_WRITE: ProtFlags = ProtFlags::READ.union(ProtFlags::WRITE);

/// A run of consecutive pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// First page.
    pub start: u32,
    /// Number of pages, 1 or more.
    pub pages: u32,
}

impl Run {
    /// Offset of the run's first byte in the arena.
    pub fn offset(self) -> usize {
        (self.start as usize) << PAGE_SHIFT
    }

    /// Length in bytes.
    pub fn bytes(self) -> usize {
        (self.pages as usize) << PAGE_SHIFT
    }
}

/// The reason why a device could not be mapped.
pub struct MapFailure {
    /// The error that mmap or madvise returned.
    pub errno: Errno,
    /// True if the run is anonymous memory again. If false, the run must never be used again.
    pub intact: bool,
}

/// The reserved address range.
pub struct Memory {
    base: NonNull<c_void>,
    bytes: usize,
    _token: Token,
}

impl Memory {
    /// Reserves `pages` zeroed pages, 1 or more.
    pub fn reserve(pages: u32) -> Result<Self, Errno> {
        let bytes = (pages as usize) << PAGE_SHIFT;
        // SAFETY: the kernel picks an unused address.
        let base = unsafe { mmap_anonymous(std::ptr::null_mut(), bytes, READ_WRITE, ANONYMOUS) }?;
        let base = NonNull::new(base).ok_or(Errno::NOMEM)?;
        let memory = Self { base, bytes, _token: Token::arena() };
        memory.keep_from_children(Run { start: 0, pages })?;
        Ok(memory)
    }

    /// Address of the first byte. Access it by raw reads and writes only: JavaScript and other
    /// domains change the bytes at any time.
    pub fn base(&self) -> NonNull<c_void> {
        self.base
    }

    /// Length of the range in bytes.
    pub fn len(&self) -> usize {
        self.bytes
    }

    /// The address of a run. Panics if the run isn't inside the range: callers check the run, so a
    /// wrong one is a bug.
    fn address(&self, run: Run) -> *mut c_void {
        assert!(run.pages > 0 && run.offset() + run.bytes() <= self.bytes, "run outside the arena");
        self.base.as_ptr().wrapping_byte_add(run.offset())
    }

    /// Keeps child processes from inheriting a run's current mapping. Call this after each mmap
    /// over the run, which resets the advice.
    fn keep_from_children(&self, run: Run) -> Result<(), Errno> {
        // SAFETY: the run lies inside our own range, and the advice changes nothing for this
        // process.
        unsafe { madvise(self.address(run), run.bytes(), Advice::LinuxDontFork) }
    }

    /// Maps fresh zeroed memory over a run, in place of the mapping that was there. After an error
    /// the run must not be used for anything else, but the call may be repeated.
    pub fn overlay(&self, run: Run) -> Result<(), Errno> {
        // SAFETY: the run lies inside our own range, so no other memory is replaced. The
        // replacement is atomic, so views of the run stay valid and read 0 afterwards.
        unsafe {
            mmap_anonymous(self.address(run), run.bytes(), READ_WRITE, ANONYMOUS | MapFlags::FIXED)
        }?;
        self.keep_from_children(run)
    }

    /// Maps `fd` at `offset` over a run.
    pub fn map_device(
        &self,
        run: Run,
        fd: impl AsFd,
        offset: u64,
        writable: bool,
    ) -> Result<(), MapFailure> {
        let protection = if writable { READ_WRITE } else { ProtFlags::READ };
        let flags = MapFlags::SHARED | MapFlags::FIXED;
        // SAFETY: as in `overlay`. A device mapping is accessed only by raw pointers.
        unsafe { mmap(self.address(run), run.bytes(), protection, flags, fd, offset) }
            .map_err(|errno| MapFailure { errno, intact: self.fill_hole(run) })?;
        self.keep_from_children(run)
            .map_err(|errno| MapFailure { errno, intact: self.overlay(run).is_ok() })
    }

    /// Maps anonymous memory over a run that a failed mmap left unmapped. Returns false if another
    /// mapping is there now.
    fn fill_hole(&self, run: Run) -> bool {
        let wanted = self.address(run);
        // SAFETY: NOREPLACE never touches an existing mapping.
        let filled = unsafe {
            mmap_anonymous(wanted, run.bytes(), READ_WRITE, ANONYMOUS | MapFlags::FIXED_NOREPLACE)
        };
        match filled {
            Ok(at) if at == wanted => self.keep_from_children(run).is_ok(),
            Ok(elsewhere) => {
                // Linux before 4.17 treats the address as a hint only and maps elsewhere. SAFETY:
                // that mapping was made by the call above, and no other code has its address.
                let _ = unsafe { munmap(elsewhere, run.bytes()) };
                false
            }
            Err(_) => false,
        }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: this is the last owner. V8 has finalized the ArrayBuffer, and no run refers to
        // the range.
        let _ = unsafe { munmap(self.base.as_ptr(), self.bytes) };
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use std::os::fd::OwnedFd;

    use super::*;

    /// Stands in for gntdev: a memfd with pages that another descriptor can change too.
    fn foreign_pages(pages: u32, fill: u8) -> OwnedFd {
        let fd = rustix::fs::memfd_create("foreign", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
        rustix::io::write(&fd, &vec![fill; (pages << PAGE_SHIFT) as usize]).unwrap();
        fd
    }

    fn byte(memory: &Memory, at: usize) -> *mut u8 {
        memory.base().as_ptr().cast::<u8>().wrapping_add(at)
    }

    fn load(memory: &Memory, at: usize) -> u8 {
        // SAFETY: `at` is inside the arena in every test, and every page of it is accessible.
        unsafe { byte(memory, at).read_volatile() }
    }

    fn store(memory: &Memory, at: usize, value: u8) {
        // SAFETY: as in `load`.
        unsafe { byte(memory, at).write_volatile(value) }
    }

    #[test]
    fn maps_in_place_and_overlays_with_zeros() {
        let memory = Memory::reserve(8).unwrap();
        let fd = foreign_pages(2, 7);
        let run = Run { start: 3, pages: 2 };
        store(&memory, 5 * 4096, 1);
        assert!(memory.map_device(run, &fd, 0, true).is_ok());
        assert_eq!((load(&memory, 3 * 4096), load(&memory, 5 * 4096 - 1)), (7, 7));
        store(&memory, 4 * 4096, 9);
        let mut seen = [0];
        rustix::io::pread(&fd, &mut seen, 4096).unwrap();
        assert_eq!(seen, [9], "a store reaches the other side");

        memory.overlay(run).unwrap();
        assert_eq!((load(&memory, 3 * 4096), load(&memory, 4 * 4096)), (0, 0));
        store(&memory, 4 * 4096, 5);
        rustix::io::pread(&fd, &mut seen, 4096).unwrap();
        assert_eq!(seen, [9], "a late store stays here");
        assert_eq!(load(&memory, 5 * 4096), 1, "neighbours are untouched");
    }

    /// A socket's mmap handler refuses, as gntdev's can. By then the kernel has unmapped the run.
    #[test]
    fn a_mapping_refused_by_the_driver_leaves_usable_memory() {
        let memory = Memory::reserve(4).unwrap();
        let (socket, _peer) = std::os::unix::net::UnixStream::pair().unwrap();
        let run = Run { start: 1, pages: 2 };
        let Err(failure) = memory.map_device(run, &socket, 0, true) else {
            panic!("a socket was mapped")
        };
        assert_eq!((failure.errno, failure.intact), (Errno::NODEV, true));
        store(&memory, 4096, 3);
        assert_eq!((load(&memory, 4096), load(&memory, 2 * 4096)), (3, 0));
    }

    /// The mmap fails before the driver is called, so the run is still mapped. The code can't tell
    /// this from another thread's mapping in the hole, so the run must be abandoned.
    #[test]
    fn a_mapping_refused_before_the_driver_is_called_is_abandoned() {
        let memory = Memory::reserve(4).unwrap();
        let (read_only, _peer) = std::io::pipe().unwrap();
        let Err(failure) = memory.map_device(Run { start: 1, pages: 2 }, &read_only, 0, true)
        else {
            panic!("a pipe was mapped")
        };
        assert_eq!((failure.errno, failure.intact), (Errno::ACCESS, false));
        assert_eq!(load(&memory, 4096), 0);
    }

    #[test]
    fn fills_a_hole_but_never_replaces_another_mapping() {
        let memory = Memory::reserve(4).unwrap();
        let run = Run { start: 1, pages: 2 };
        let at = memory.address(run);
        // SAFETY: no code reads the run until it is mapped again below.
        unsafe { munmap(at, run.bytes()) }.unwrap();
        assert!(memory.fill_hole(run));
        assert_eq!(load(&memory, 2 * 4096), 0);
        store(&memory, 2 * 4096, 4);
        assert!(!memory.fill_hole(run), "occupied");
        assert_eq!(load(&memory, 2 * 4096), 4, "and left alone");
    }

    /// Number of arena pages that a child process would inherit, according to VmFlags in
    /// /proc/self/smaps.
    fn inherited(memory: &Memory) -> usize {
        let start = memory.base().as_ptr().addr();
        let mut own = 0..0;
        let mut pages = 0;
        for line in std::fs::read_to_string("/proc/self/smaps").unwrap().lines() {
            let address = line.split_once(' ').and_then(|(range, _)| range.split_once('-'));
            let bound = |text| usize::from_str_radix(text, 16);
            if let Some((Ok(from), Ok(to))) = address.map(|(from, to)| (bound(from), bound(to))) {
                own = from.max(start)..to.min(start + memory.len());
            } else if let Some(flags) = line.strip_prefix("VmFlags:") {
                let kept = flags.split_whitespace().any(|flag| flag == "dc");
                pages += if kept { 0 } else { own.len() >> PAGE_SHIFT };
            }
        }
        pages
    }

    #[test]
    fn a_child_process_inherits_no_page() {
        let memory = Memory::reserve(8).unwrap();
        assert_eq!(inherited(&memory), 0, "reserved");
        let run = Run { start: 3, pages: 2 };
        assert!(memory.map_device(run, foreign_pages(2, 7), 0, true).is_ok());
        assert_eq!(inherited(&memory), 0, "mapped");
        memory.overlay(run).unwrap();
        assert_eq!(inherited(&memory), 0, "unmapped");
        let (socket, _peer) = std::os::unix::net::UnixStream::pair().unwrap();
        assert!(memory.map_device(run, &socket, 0, true).is_err());
        assert_eq!(inherited(&memory), 0, "refused by the driver");
    }

    #[test]
    fn a_run_outside_the_arena_is_refused() {
        let memory = Memory::reserve(4).unwrap();
        for run in
            [Run { start: 4, pages: 1 }, Run { start: 0, pages: 5 }, Run { start: 0, pages: 0 }]
        {
            assert!(std::panic::catch_unwind(|| memory.address(run)).is_err());
        }
    }
}
