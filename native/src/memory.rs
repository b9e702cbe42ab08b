//! The arena's address range. It stays reserved, every page of it accessible, from `reserve` until
//! the value is dropped; what changes is what lies behind a page: anonymous memory or a device.
//!
//! Never `munmap`ed in parts: JavaScript keeps views of the whole range, and a load from a hole
//! ends the process. One hole can't be avoided: where a driver refuses an mmap with MAP_FIXED,
//! Linux has already removed what was there (mmap_region unmaps before it calls the driver). A peer
//! that sends a bad grant reference can bring that about. `map_device` fills the hole, with
//! MAP_FIXED_NOREPLACE: should another thread's mmap have landed in it meanwhile, overwriting that
//! would corrupt its memory, so the range is given up instead. (A failure before the driver is
//! asked leaves no hole; with a device open for reading and writing that is ENOMEM alone. The range
//! is given up then, too.)
//!
//! A child process gets no page of it. A fork makes anonymous pages copy-on-write, and a direct
//! read (O_DIRECT) in flight may then fill the child's page instead of ours: open(2) warns of it.
//! And a child with a mapping of gntdev, if only until execve, keeps grants mapped that we have
//! unmapped.

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

/// Anonymous memory that costs nothing until touched, not even a commitment to swap.
const ANONYMOUS: MapFlags = MapFlags::PRIVATE.union(MapFlags::NORESERVE);
const READ_WRITE: ProtFlags = ProtFlags::READ.union(ProtFlags::WRITE);

/// A run of pages: the first page and the number of pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// First page.
    pub start: u32,
    /// Number of pages, 1 or more.
    pub pages: u32,
}

impl Run {
    /// Offset of the first byte.
    pub fn offset(self) -> usize {
        (self.start as usize) << PAGE_SHIFT
    }

    /// Length in bytes.
    pub fn bytes(self) -> usize {
        (self.pages as usize) << PAGE_SHIFT
    }
}

/// Why a device could not be mapped.
pub struct MapFailure {
    /// What mmap said.
    pub errno: Errno,
    /// The run is anonymous memory again. If not, it must never be used again.
    pub intact: bool,
}

/// The reserved range.
pub struct Memory {
    base: NonNull<c_void>,
    bytes: usize,
    _token: Token,
}

impl Memory {
    /// Reserves `pages` pages, 1 or more, all zero.
    pub fn reserve(pages: u32) -> Result<Self, Errno> {
        let bytes = (pages as usize) << PAGE_SHIFT;
        // SAFETY: the kernel picks an unused address.
        let base = unsafe { mmap_anonymous(std::ptr::null_mut(), bytes, READ_WRITE, ANONYMOUS) }?;
        let base = NonNull::new(base).ok_or(Errno::NOMEM)?;
        let memory = Self { base, bytes, _token: Token::arena() };
        memory.keep_from_children(Run { start: 0, pages })?;
        Ok(memory)
    }

    /// First byte. Only for raw reads and writes: JavaScript and other domains change the bytes at
    /// any time.
    pub fn base(&self) -> NonNull<c_void> {
        self.base
    }

    /// Length in bytes.
    pub fn len(&self) -> usize {
        self.bytes
    }

    /// The address of a run. Panics (a caught bug) if the run isn't inside the range.
    fn address(&self, run: Run) -> *mut c_void {
        assert!(run.pages > 0 && run.offset() + run.bytes() <= self.bytes, "run outside the arena");
        self.base.as_ptr().wrapping_byte_add(run.offset())
    }

    /// A child process won't have what lies behind a run now. To be called after each change of it:
    /// the advice is the mapping's and goes with it.
    fn keep_from_children(&self, run: Run) -> Result<(), Errno> {
        // SAFETY: the run lies inside our own range, and nothing changes for this process.
        unsafe { madvise(self.address(run), run.bytes(), Advice::LinuxDontFork) }
    }

    /// Lays fresh zeroed memory over a run, which ends whatever was mapped there. After an error
    /// the run must not be used for anything else; calling it again is fine.
    pub fn overlay(&self, run: Run) -> Result<(), Errno> {
        // SAFETY: the run lies inside our own range, so nothing else's memory is replaced. Views of
        // the run stay valid: the replacement is atomic, and reads give 0 afterwards.
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
        // SAFETY: as in `overlay`; a mapping of a device is only ever accessed by raw pointers.
        unsafe { mmap(self.address(run), run.bytes(), protection, flags, fd, offset) }
            .map_err(|errno| MapFailure { errno, intact: self.fill_hole(run) })?;
        self.keep_from_children(run)
            .map_err(|errno| MapFailure { errno, intact: self.overlay(run).is_ok() })
    }

    /// Makes a run that a failed mmap left empty anonymous again; false if something else lies
    /// there now.
    fn fill_hole(&self, run: Run) -> bool {
        let wanted = self.address(run);
        // SAFETY: NOREPLACE never touches an existing mapping.
        let filled = unsafe {
            mmap_anonymous(wanted, run.bytes(), READ_WRITE, ANONYMOUS | MapFlags::FIXED_NOREPLACE)
        };
        match filled {
            Ok(at) if at == wanted => self.keep_from_children(run).is_ok(),
            Ok(elsewhere) => {
                // Linux before 4.17 takes the flag for a hint.
                // SAFETY: just mapped by the call above, and nobody knows of it.
                let _ = unsafe { munmap(elsewhere, run.bytes()) };
                false
            }
            Err(_) => false,
        }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: the last owner is gone: the ArrayBuffer was finalized and no mapping refers to
        // the range.
        let _ = unsafe { munmap(self.base.as_ptr(), self.bytes) };
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use std::os::fd::OwnedFd;

    use super::*;

    /// Stands in for gntdev: pages that somebody else holds too.
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

    /// A socket's own mmap handler refuses, as gntdev's does: by then the kernel has made the hole.
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

    /// Refused before the driver is asked, nothing was unmapped; that can't be told from a
    /// stranger's mapping, so the run is given up all the same.
    #[test]
    fn a_mapping_refused_early_is_given_up() {
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
    fn fills_a_hole_but_never_covers_a_stranger() {
        let memory = Memory::reserve(4).unwrap();
        let run = Run { start: 1, pages: 2 };
        let at = memory.address(run);
        // SAFETY: nothing reads the run before it is mapped again below.
        unsafe { munmap(at, run.bytes()) }.unwrap();
        assert!(memory.fill_hole(run));
        assert_eq!(load(&memory, 2 * 4096), 0);
        store(&memory, 2 * 4096, 4);
        assert!(!memory.fill_hole(run), "occupied");
        assert_eq!(load(&memory, 2 * 4096), 4, "and left alone");
    }

    /// Pages of the arena that a child of this process would get, by what the kernel says of each
    /// mapping.
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
    fn a_child_gets_no_page() {
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
    fn a_run_outside_is_refused() {
        let memory = Memory::reserve(4).unwrap();
        for run in
            [Run { start: 4, pages: 1 }, Run { start: 0, pages: 5 }, Run { start: 0, pages: 0 }]
        {
            assert!(std::panic::catch_unwind(|| memory.address(run)).is_err());
        }
    }
}
