//! The table of a TAP device: descriptions of the frames of one call. Its columns have the contents
//! of those of `Frames` in @xenkit/frames.

use std::ptr::NonNull;

use napi_derive::napi;

use super::header::Description;
use crate::columns::{Column, Placement};
use crate::errors::Result;
use crate::shown::{Memory, Shown};

/// Byte offsets of the columns; index.d.ts describes them.
#[napi(object)]
#[derive(Clone, Copy)]
pub struct TapLayout {
    /// Offset of the column with each frame's offset in the memory that a call is given.
    pub start: u32,
    /// Offset of the column with each frame's length in bytes.
    pub length: u32,
    /// Offset of the errno of the last call: one element, not one per frame.
    pub error: u32,
    /// Offset of the column of this name, see `Description`; likewise those that follow.
    pub checksum_start: u32,
    pub checksum_offset: u32,
    pub gso_size: u32,
    pub headers: u32,
    pub checksum: u32,
    pub gso: u32,
    /// Length of the table in bytes.
    pub size: u32,
}

impl TapLayout {
    fn new(frames: u32) -> Self {
        let mut next = Placement::default();
        Self {
            start: next.column::<u32>(frames),
            length: next.column::<u32>(frames),
            error: next.column::<u32>(1),
            checksum_start: next.column::<u16>(frames),
            checksum_offset: next.column::<u16>(frames),
            gso_size: next.column::<u16>(frames),
            headers: next.column::<u16>(frames),
            checksum: next.column::<u8>(frames),
            gso: next.column::<u8>(frames),
            size: next.size,
        }
    }
}

/// Descriptions of frames.
pub struct Table {
    memory: Memory,
    layout: TapLayout,
    start: Column<u32>,
    length: Column<u32>,
    error: Column<u32>,
    checksum_start: Column<u16>,
    checksum_offset: Column<u16>,
    gso_size: Column<u16>,
    headers: Column<u16>,
    checksum: Column<u8>,
    gso: Column<u8>,
}

// SAFETY: the memory is accessed only by volatile reads and writes of plain numbers.
unsafe impl Send for Table {}
// SAFETY: as for `Send`: only volatile reads and writes of plain numbers.
unsafe impl Sync for Table {}

impl Shown for Table {
    fn extent(&self) -> (NonNull<u8>, usize) {
        self.memory.extent()
    }
}

impl Table {
    /// Makes a table with all fields 0, for 1 frame or more.
    pub fn new(frames: u32) -> Result<Self> {
        let layout = TapLayout::new(frames);
        let memory = Memory::new(layout.size as usize)?;
        let base = memory.base();
        // SAFETY: the layout's columns don't overlap, are aligned, and fit into memory of its size.
        unsafe {
            Ok(Self {
                memory,
                layout,
                start: Column::new(base, layout.start, frames),
                length: Column::new(base, layout.length, frames),
                error: Column::new(base, layout.error, 1),
                checksum_start: Column::new(base, layout.checksum_start, frames),
                checksum_offset: Column::new(base, layout.checksum_offset, frames),
                gso_size: Column::new(base, layout.gso_size, frames),
                headers: Column::new(base, layout.headers, frames),
                checksum: Column::new(base, layout.checksum, frames),
                gso: Column::new(base, layout.gso, frames),
            })
        }
    }

    /// Byte offsets of the columns.
    pub fn layout(&self) -> TapLayout {
        self.layout
    }

    /// Number of frames that the table has room for.
    pub fn frames(&self) -> u32 {
        self.start.length()
    }

    /// Offset and length of a frame; `None` past the end.
    pub fn place(&self, at: u32) -> Option<(u32, u32)> {
        Some((self.start.get(at)?, self.length.get(at)?))
    }

    /// How a frame is to be completed; `None` past the end.
    pub fn description(&self, at: u32) -> Option<Description> {
        Some(Description {
            checksum: self.checksum.get(at)?,
            checksum_start: self.checksum_start.get(at)?,
            checksum_offset: self.checksum_offset.get(at)?,
            gso: self.gso.get(at)?,
            gso_size: self.gso_size.get(at)?,
            headers: self.headers.get(at)?,
        })
    }

    /// Sets all fields of a frame.
    pub fn set(&self, at: u32, (start, length): (u32, u32), description: Description) {
        self.start.set(at, start);
        self.length.set(at, length);
        self.checksum.set(at, description.checksum);
        self.checksum_start.set(at, description.checksum_start);
        self.checksum_offset.set(at, description.checksum_offset);
        self.gso.set(at, description.gso);
        self.gso_size.set(at, description.gso_size);
        self.headers.set(at, description.headers);
    }

    /// Sets the errno of the call, 0 for none.
    pub fn set_error(&self, errno: i32) {
        self.error.set(0, errno.unsigned_abs());
    }

    /// The errno of the last call.
    #[cfg(test)]
    pub fn error(&self) -> u32 {
        self.error.get(0).unwrap_or_default()
    }
}
