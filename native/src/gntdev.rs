//! /dev/xen/gntdev: maps and copies pages that other domains granted.

use std::cell::RefCell;
use std::ffi::c_void;
use std::ptr::NonNull;
use std::rc::Rc;

use napi::bindgen_prelude::{Env, Unknown};
use napi_derive::napi;
use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

use crate::arena::Arena;
use crate::columns::{Column, Placement};
use crate::counters::Token;
use crate::device::Device;
use crate::errors::{ARENA_FULL, CLOSED, Result, failure, os, out_of_range};
use crate::function;
use crate::map_limit::max_mappings;
use crate::memory::PAGE_SIZE;
use crate::runs::{Backing, Runs};
use crate::uapi::{self, CopyForeign, CopySegment, CopySide, HEADER_WORDS};

/// Most operations of one copy call.
const MAX_OPERATIONS: u32 = 65_536;

struct State {
    runs: Rc<Runs>,
    /// The open device; `None` once closed.
    device: RefCell<Option<Rc<Device>>>,
    /// Segments of the current copy. The vector is reused, so that a copy call allocates nothing.
    segments: RefCell<Vec<CopySegment>>,
}

impl State {
    fn device(&self) -> Result<Rc<Device>> {
        self.device.borrow().clone().ok_or_else(|| failure(CLOSED, "the grant device is closed"))
    }

    /// Performs the first `count` copies of a table; returns how many failed. The table lies in
    /// pages from `allocate` and has room for `capacity` copies; see `CopyLayout`.
    fn copy(
        &self,
        table: u32,
        capacity: u32,
        count: u32,
        domid: u16,
        outward: bool,
    ) -> Result<u32> {
        let device = self.device()?;
        if count > capacity {
            return Err(out_of_range(format!(
                "\"count\" expected an integer 0..{capacity}, got {count}"
            )));
        }
        let columns = Columns::new(&self.runs, table, capacity)?;
        let mut segments = self.segments.borrow_mut();
        segments.clear();
        for at in 0..count {
            let operation = columns
                .operation(at, &self.runs)
                .map_err(|what| out_of_range(format!("operation {at}: {what}")))?;
            segments.push(copy_segment(operation, domid, outward));
        }
        copy(&device, &mut segments).map_err(os("IOCTL_GNTDEV_GRANT_COPY"))?;
        let mut failed = 0;
        for (at, segment) in (0..count).zip(segments.iter()) {
            columns.status.set(at, segment.status);
            failed += u32::from(segment.status != 0);
        }
        Ok(failed)
    }
}

/// The JavaScript class `Gntdev`; its contract is in index.d.ts.
#[napi]
pub struct Gntdev {
    state: Rc<State>,
}

#[napi]
impl Gntdev {
    /// Opens the device at `path`, which is /dev/xen/gntdev except in tests.
    #[napi(constructor, catch_unwind)]
    pub fn new(arena: &Arena, path: String) -> Result<Self> {
        let device = Rc::new(Device::open(&path)?);
        Ok(Self {
            state: Rc::new(State {
                runs: arena.runs(),
                device: RefCell::new(Some(device)),
                segments: RefCell::default(),
            }),
        })
    }

    /// Maps `refs`, pairs of domid and gref, onto consecutive pages; returns their arena offset.
    #[napi(catch_unwind)]
    pub fn map(&self, refs: &[u32], writable: bool) -> Result<u32> {
        let device = self.state.device()?;
        let runs = &self.state.runs;
        let (token, max) = (Token::mapping(), max_mappings());
        if Token::mappings() > max {
            let full = format!("all {max} mappings are in use, a quarter of vm.max_map_count");
            return Err(failure(ARENA_FULL, full));
        }
        let (run, index) = loop {
            let run = runs.take((refs.len() / 2) as u32)?;
            let index = match insert(&device, refs) {
                Ok(index) => index,
                Err(errno) => {
                    runs.give_back(run);
                    return Err(os("IOCTL_GNTDEV_MAP_GRANT_REF")(errno));
                }
            };
            let Err(errno) = runs.map_device(run, &device, index, writable) else {
                break (run, index);
            };
            remove(&device, index, run.pages);
            // In a PV domain, the process's first mapping registers an MMU notifier. That fails
            // with EINTR if a signal is pending (mm_take_all_locks), a profiler's for example. The
            // driver's index can't be used again then, so start over.
            if errno != Errno::INTR {
                return Err(os("mmap of granted pages")(errno));
            }
        };
        let backing = Backing {
            device,
            end: (uapi::GNTDEV_UNMAP_GRANT_REF, "IOCTL_GNTDEV_UNMAP_GRANT_REF"),
            notify: (uapi::GNTDEV_SET_UNMAP_NOTIFY, "IOCTL_GNTDEV_SET_UNMAP_NOTIFY"),
            index,
            _token: token,
        };
        Ok(runs.commit(run, Some(backing)))
    }

    /// Finds out why one reference can't be mapped. Returns 0 if it can be, else its GNTST_* code,
    /// or a negative errno if no code is known. The driver reports just EINVAL for a whole `map`.
    /// So `probe` maps the reference alone at another address. If that fails too, a grant copy of
    /// one byte yields the code.
    #[napi(catch_unwind)]
    pub fn probe(&self, domid: u16, gref: u32, writable: bool) -> Result<i32> {
        let device = self.state.device()?;
        let Err(errno) = map_elsewhere(&device, domid, gref, writable) else { return Ok(0) };
        let mut byte = 0u8;
        let local = NonNull::from(&mut byte).cast();
        let mut segment =
            [copy_segment(Operation { gref, offset: 0, length: 1, local }, domid, false)];
        Ok(match copy(&device, &mut segment) {
            Ok(()) if segment[0].status != 0 => i32::from(segment[0].status),
            _ => -errno.raw_os_error(),
        })
    }

    /// Byte offsets of the columns in a table with room for `capacity` copies.
    #[napi(catch_unwind)]
    pub fn copy_layout(&self, capacity: u32) -> Result<CopyLayout> {
        CopyLayout::new(capacity)
    }

    /// Makes the JavaScript function that copies between pages of `domid` and the arena. The
    /// function performs the first copies of the table at arena offset `table`.
    #[napi(catch_unwind)]
    pub fn create_copy<'env>(
        &self,
        env: &'env Env,
        table: u32,
        capacity: u32,
        domid: u16,
        outward: bool,
    ) -> Result<Unknown<'env>> {
        let state = Rc::clone(&self.state);
        function::create(env, c"copy", move |[count]: [u32; 1]| {
            state.copy(table, capacity, count, domid, outward)
        })
    }

    /// Closes the device after its last mapping has ended. Idempotent.
    #[napi(catch_unwind)]
    pub fn close(&self) {
        self.state.device.borrow_mut().take();
    }
}

/// Passes references to the driver; returns the index at which the driver lets them be mapped by
/// mmap.
fn insert(device: &Device, refs: &[u32]) -> std::result::Result<u64, Errno> {
    let mut words = Vec::with_capacity(HEADER_WORDS + refs.len());
    words.extend([(refs.len() / 2) as u32, 0, 0, 0]);
    words.extend_from_slice(refs);
    // SAFETY: the words form the struct that the ioctl takes, with as many refs as its count says.
    unsafe { device.ioctl(uapi::GNTDEV_MAP_GRANT_REF, words.as_mut_slice()) }?;
    Ok(uapi::index_of(&words))
}

/// Undoes `insert`. An error means there is nothing to undo.
fn remove(device: &Device, index: u64, count: u32) {
    let mut argument = uapi::Run { index, count, pad: 0 };
    // SAFETY: the ioctl takes this struct, and it holds no pointer.
    let _ = unsafe { device.ioctl(uapi::GNTDEV_UNMAP_GRANT_REF, &mut argument) };
}

/// Maps one page at an address that the kernel picks, and unmaps it immediately.
fn map_elsewhere(
    device: &Device,
    domid: u16,
    gref: u32,
    writable: bool,
) -> std::result::Result<(), Errno> {
    let protection = if writable { ProtFlags::READ | ProtFlags::WRITE } else { ProtFlags::READ };
    rustix::io::retry_on_intr(|| {
        let index = insert(device, &[u32::from(domid), gref])?;
        // SAFETY: without MAP_FIXED nothing is replaced.
        let mapped = unsafe {
            mmap(
                std::ptr::null_mut(),
                PAGE_SIZE as usize,
                protection,
                MapFlags::SHARED,
                device,
                index,
            )
        };
        if let Ok(at) = mapped {
            // SAFETY: the page was mapped just now, and no other code has its address.
            let _ = unsafe { munmap(at, PAGE_SIZE as usize) };
        }
        remove(device, index, 1);
        mapped.map(|_| ())
    })
}

/// One copy whose fields have been checked.
struct Operation {
    gref: u32,
    offset: u16,
    length: u16,
    local: NonNull<c_void>,
}

fn copy_segment(operation: Operation, domid: u16, outward: bool) -> CopySegment {
    let Operation { gref, offset, length, local } = operation;
    let local = CopySide { local: local.as_ptr() };
    let foreign = CopySide { foreign: CopyForeign { gref, offset, domid } };
    let (source, dest, flags) = if outward {
        (local, foreign, uapi::COPY_DEST_IS_GRANT)
    } else {
        (foreign, local, uapi::COPY_SOURCE_IS_GRANT)
    };
    CopySegment { source, dest, len: length, flags, status: 0 }
}

/// Performs all copies with one ioctl: the driver splits them into batches for the hypervisor.
fn copy(device: &Device, segments: &mut [CopySegment]) -> std::result::Result<(), Errno> {
    let mut argument =
        uapi::GrantCopy { count: segments.len() as u32, segments: segments.as_mut_ptr() };
    // SAFETY: the segments live through the call. The local side of each is memory that may change
    // at any time: the arena, or `probe`'s byte.
    unsafe { device.ioctl(uapi::GNTDEV_GRANT_COPY, &mut argument) }?;
    Ok(())
}

/// Byte offsets of the columns in a table of copies; index.d.ts describes them.
#[napi(object)]
pub struct CopyLayout {
    /// Reference of the granted page.
    pub gref: u32,
    /// Offset of the local bytes in the arena.
    pub local: u32,
    /// Offset of the bytes in the granted page.
    pub offset: u32,
    /// Number of bytes.
    pub length: u32,
    /// Set by the copy: 0 or a negative GNTST_* code.
    pub status: u32,
    /// Length of the table in bytes.
    pub size: u32,
}

impl CopyLayout {
    fn new(capacity: u32) -> Result<Self> {
        if capacity > MAX_OPERATIONS {
            return Err(out_of_range(format!(
                "\"capacity\" expected an integer 0..{MAX_OPERATIONS}, got {capacity}"
            )));
        }
        let mut next = Placement::default();
        Ok(Self {
            gref: next.column::<u32>(capacity),
            local: next.column::<u32>(capacity),
            offset: next.column::<u16>(capacity),
            length: next.column::<u16>(capacity),
            status: next.column::<i16>(capacity),
            size: next.size,
        })
    }
}

/// The columns of a table of copies.
struct Columns {
    gref: Column<u32>,
    local: Column<u32>,
    offset: Column<u16>,
    length: Column<u16>,
    status: Column<i16>,
}

impl Columns {
    /// Finds the columns of the table at arena offset `table`, which has room for `capacity`
    /// copies.
    fn new(runs: &Runs, table: u32, capacity: u32) -> Result<Self> {
        let layout = CopyLayout::new(capacity)?;
        let base = runs.own(table, layout.size as usize)?.cast();
        // SAFETY: `own` checked that the table lies in the arena, at a page boundary. The layout's
        // columns don't overlap, are aligned, and lie within the table.
        unsafe {
            Ok(Self {
                gref: Column::new(base, layout.gref, capacity),
                local: Column::new(base, layout.local, capacity),
                offset: Column::new(base, layout.offset, capacity),
                length: Column::new(base, layout.length, capacity),
                status: Column::new(base, layout.status, capacity),
            })
        }
    }

    fn row(&self, at: u32) -> Option<(u32, usize, u16, u16)> {
        let (offset, length) = (self.offset.get(at)?, self.length.get(at)?);
        Some((self.gref.get(at)?, self.local.get(at)? as usize, offset, length))
    }

    /// Reads each field of a copy once, then checks the values that were read.
    fn operation(&self, at: u32, runs: &Runs) -> std::result::Result<Operation, String> {
        let (gref, local, offset, length) = self.row(at).ok_or("leaves the table")?;
        if length == 0 || u32::from(offset) + u32::from(length) > PAGE_SIZE {
            return Err(format!("offset {offset} and length {length} leave the page"));
        }
        let (base, bytes) = runs.extent();
        if local + usize::from(length) > bytes {
            return Err(format!("local offset {local} and length {length} leave the arena"));
        }
        // SAFETY: the lines above checked that the local bytes lie in the arena.
        Ok(Operation { gref, offset, length, local: unsafe { base.byte_add(local) } })
    }
}
