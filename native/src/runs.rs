//! The arena's table of runs (ranges of pages): which are free, allocated, mapped or shared, how
//! often each is pinned, and how each ends.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::c_void;
use std::ptr::NonNull;
use std::rc::Rc;

use rustix::ioctl::Opcode;

use crate::counters::Token;
use crate::device::Device;
use crate::errors::{ARENA_FULL, CLOSED, Failure, Result, failure, os, out_of_range};
use crate::memory::{MapFailure, Memory, PAGE_SHIFT, PAGE_SIZE, Run};
use crate::ranges::Ranges;
use crate::uapi;

/// The device behind a run: the ioctls that end the run and that set up its unmap notification.
pub struct Backing {
    /// The device, kept open for as long as the run exists.
    pub device: Rc<Device>,
    /// The ioctl that ends the run, and its name for errors. Its argument is a [`uapi::Run`].
    pub end: (Opcode, &'static str),
    /// The ioctl that sets up the unmap notification, and its name for errors. Its argument is a
    /// [`uapi::UnmapNotify`].
    pub notify: (Opcode, &'static str),
    /// The driver's identifier of the run, which is also its mmap offset.
    pub index: u64,
    /// Counts the run in `counters`.
    pub _token: Token,
}

struct Live {
    run: Run,
    /// The device behind the run; `None` for anonymous pages of this domain.
    backing: Option<Backing>,
    pins: u32,
    /// Whether the run was closed: it ends when its last pin is removed.
    closing: bool,
}

struct Table {
    free: Ranges,
    /// Live runs by their first page.
    live: HashMap<u32, Live>,
    closed: bool,
}

/// The runs of one arena, shared by the arena and the devices that map into it.
pub struct Runs {
    memory: Rc<Memory>,
    table: RefCell<Table>,
}

impl Runs {
    /// Reserves the arena's memory.
    pub fn new(pages: u32) -> Result<Self> {
        let memory = Memory::reserve(pages).map_err(os("mmap of the arena"))?;
        let table = Table { free: Ranges::new(pages), live: HashMap::new(), closed: false };
        Ok(Self { memory: Rc::new(memory), table: RefCell::new(table) })
    }

    /// Takes a free run of pages. The caller must pass it to `commit`, or to `give_back` if it is
    /// intact.
    pub fn take(&self, pages: u32) -> Result<Run> {
        if pages == 0 {
            return Err(out_of_range("\"pages\" expected an integer 1.., got 0"));
        }
        let mut table = self.table.borrow_mut();
        if table.closed {
            return Err(failure(CLOSED, "the arena is closed"));
        }
        match table.free.take(pages) {
            Some(start) => Ok(Run { start, pages }),
            None => {
                let longest = table.free.longest();
                Err(failure(
                    ARENA_FULL,
                    format!(
                        "no {pages} free pages in a row in the arena, the longest run has {longest}"
                    ),
                ))
            }
        }
    }

    /// Frees a run that was taken but not committed.
    pub fn give_back(&self, run: Run) {
        self.table.borrow_mut().free.give(run.start, run.pages);
    }

    /// Records a taken run as live; returns the offset of its first byte.
    pub fn commit(&self, run: Run, backing: Option<Backing>) -> u32 {
        self.table
            .borrow_mut()
            .live
            .insert(run.start, Live { run, backing, pins: 0, closing: false });
        run.start << PAGE_SHIFT
    }

    /// Maps a device over a run that was taken. On failure the run is freed, or abandoned if it
    /// isn't intact.
    pub fn map_device(
        &self,
        run: Run,
        device: &Device,
        index: u64,
        writable: bool,
    ) -> std::result::Result<(), rustix::io::Errno> {
        self.memory.map_device(run, device, index, writable).map_err(
            |MapFailure { errno, intact }| {
                if intact {
                    self.give_back(run);
                }
                errno
            },
        )
    }

    /// The address of the anonymous run that begins at `offset`. Fails if no such run begins there,
    /// or if it is shorter than `bytes`.
    pub fn own(&self, offset: u32, bytes: usize) -> Result<NonNull<c_void>> {
        let table = self.table.borrow();
        let found = table
            .live
            .get(&page_of(offset)?)
            .filter(|live| live.backing.is_none() && bytes <= live.run.bytes());
        let run = found
            .ok_or_else(|| {
                out_of_range(format!("no {bytes} allocated bytes at arena offset {offset}"))
            })?
            .run;
        // SAFETY: a live run lies inside the range.
        Ok(unsafe { self.memory.base().byte_add(run.offset()) })
    }

    /// The arena's memory. The ArrayBuffer owns it too and may outlive the runs.
    pub fn memory(&self) -> &Rc<Memory> {
        &self.memory
    }

    /// Address of the arena's first byte, and the arena's length, for callers that check offsets
    /// anywhere in the arena.
    pub fn extent(&self) -> (NonNull<c_void>, usize) {
        (self.memory.base(), self.memory.len())
    }

    /// Pins a run, so that it doesn't end before `unpin`.
    pub fn pin(&self, offset: u32) -> Result<()> {
        let mut table = self.table.borrow_mut();
        let live = table.live.get_mut(&page_of(offset)?).ok_or_else(|| unknown(offset))?;
        live.pins = live
            .pins
            .checked_add(1)
            .ok_or_else(|| out_of_range(format!("too many pins at arena offset {offset}")))?;
        Ok(())
    }

    /// Removes one pin. Ends the run if that was the last pin and the run has been closed.
    pub fn unpin(&self, offset: u32) -> Result<()> {
        let page = page_of(offset)?;
        let mut table = self.table.borrow_mut();
        let live = table.live.get_mut(&page).ok_or_else(|| unknown(offset))?;
        live.pins = live
            .pins
            .checked_sub(1)
            .ok_or_else(|| out_of_range(format!("no pin to remove at arena offset {offset}")))?;
        if live.pins == 0 && live.closing { self.end(&mut table, page) } else { Ok(()) }
    }

    /// Ends the run that begins at `offset`, after its last pin.
    pub fn close(&self, offset: u32) -> Result<()> {
        let page = page_of(offset)?;
        let mut table = self.table.borrow_mut();
        let Some(live) = table.live.get_mut(&page) else {
            return if table.closed { Ok(()) } else { Err(unknown(offset)) };
        };
        live.closing = true;
        if live.pins == 0 { self.end(&mut table, page) } else { Ok(()) }
    }

    /// Ends every run, each after its last pin. `take` fails from now on.
    pub fn close_all(&self) -> Result<()> {
        let mut table = self.table.borrow_mut();
        table.closed = true;
        let mut result = Ok(());
        for page in table.live.keys().copied().collect::<Vec<_>>() {
            let Some(live) = table.live.get_mut(&page) else { continue };
            live.closing = true;
            if live.pins == 0 {
                result = result.and(self.end(&mut table, page));
            }
        }
        result
    }

    /// Maps fresh memory over a run, ends the run in the driver, and frees its pages. If mapping
    /// the memory fails, the run stays as it is.
    fn end(&self, table: &mut Table, page: u32) -> Result<()> {
        let Some(live) = table.live.get(&page) else { return Ok(()) };
        let run = live.run;
        self.memory.overlay(run).map_err(os("mmap over pages of the arena"))?;
        let backing = table.live.remove(&page).and_then(|live| live.backing);
        table.free.give(run.start, run.pages);
        let Some(backing) = backing else { return Ok(()) };
        let (opcode, name) = backing.end;
        let mut argument = uapi::Run { index: backing.index, count: run.pages, pad: 0 };
        // SAFETY: the ioctl `end` takes this struct, which holds no pointer.
        unsafe { backing.device.ioctl(opcode, &mut argument) }.map_err(os(name))?;
        Ok(())
    }

    /// Registers what the kernel does when the run at `offset` ends for any reason.
    pub fn notify_on_unmap(
        &self,
        offset: u32,
        clear_byte: Option<u32>,
        port: Option<u32>,
    ) -> Result<()> {
        let table = self.table.borrow();
        let live = table.live.get(&page_of(offset)?).ok_or_else(|| unknown(offset))?;
        let backing = live
            .backing
            .as_ref()
            .ok_or_else(|| out_of_range("pages of this domain's own have no unmap-notify"))?;
        if clear_byte.is_some_and(|byte| byte as usize >= live.run.bytes()) {
            return Err(out_of_range(format!(
                "\"clearByte\" expected 0..{}",
                live.run.bytes() - 1
            )));
        }
        let (opcode, name) = backing.notify;
        let clear = if clear_byte.is_some() { uapi::UNMAP_NOTIFY_CLEAR_BYTE } else { 0 };
        let send = if port.is_some() { uapi::UNMAP_NOTIFY_SEND_EVENT } else { 0 };
        let mut argument = uapi::UnmapNotify {
            index: backing.index + u64::from(clear_byte.unwrap_or(0)),
            action: clear | send,
            event_channel_port: port.unwrap_or(0),
        };
        // SAFETY: the ioctl `notify` takes this struct, which holds no pointer.
        unsafe { backing.device.ioctl(opcode, &mut argument) }.map_err(os(name))?;
        Ok(())
    }
}

/// Anonymous pages of the arena that stay allocated while this value exists.
pub struct Pinned {
    runs: Rc<Runs>,
    offset: u32,
    address: NonNull<c_void>,
}

impl Pinned {
    /// Pins the allocated run that begins at `offset` and has at least `bytes` bytes.
    pub fn new(runs: Rc<Runs>, offset: u32, bytes: usize) -> Result<Self> {
        let address = runs.own(offset, bytes)?;
        runs.pin(offset)?;
        Ok(Self { runs, offset, address })
    }

    /// Address of the first byte.
    pub fn address(&self) -> NonNull<c_void> {
        self.address
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        // This fails only if fresh memory can't be mapped over the run. The pages then stay taken.
        let _ = self.runs.unpin(self.offset);
    }
}

fn page_of(offset: u32) -> Result<u32> {
    if offset.is_multiple_of(PAGE_SIZE) { Ok(offset >> PAGE_SHIFT) } else { Err(unknown(offset)) }
}

fn unknown(offset: u32) -> Failure {
    out_of_range(format!("no run begins at arena offset {offset}"))
}

#[cfg(test)]
#[path = "runs_test.rs"]
#[allow(clippy::unwrap_used)]
mod tests;
