//! The ioctls of Linux's Xen drivers, from include/uapi/xen/{gntdev,gntalloc,evtchn}.h.
//!
//! All numbers are `_IOC(_IOC_NONE, ...)`, though the structs are read and written. The headers
//! declare structs of variable length with one element, and the number's size field counts that
//! element. Here such structs are arrays of 32-bit words.

use std::ffi::c_void;

use rustix::ioctl::{Direction, Opcode, opcode};

const fn gnt(number: u8, size: usize) -> Opcode {
    opcode::from_components(Direction::None, b'G', number, size)
}

const fn evtchn(number: u8, size: usize) -> Opcode {
    opcode::from_components(Direction::None, b'E', number, size)
}

/// Argument, in words: count, 0, the index to pass to mmap (2 words, set by the driver), then the
/// domid and the gref of each ref.
pub const GNTDEV_MAP_GRANT_REF: Opcode = gnt(0, 24);
/// Argument: [`Run`].
pub const GNTDEV_UNMAP_GRANT_REF: Opcode = gnt(1, size_of::<Run>());
/// Argument: [`UnmapNotify`].
pub const GNTDEV_SET_UNMAP_NOTIFY: Opcode = gnt(7, size_of::<UnmapNotify>());
/// Argument: [`GrantCopy`].
pub const GNTDEV_GRANT_COPY: Opcode = gnt(8, size_of::<GrantCopy>());
/// Argument, in words: domid (low half) and [`GNTALLOC_FLAG_WRITABLE`] (high half), count, the
/// index to pass to mmap (2 words, set by the driver), then the references (set by the driver).
pub const GNTALLOC_ALLOC_GREF: Opcode = gnt(5, 24);
/// Argument: [`Run`].
pub const GNTALLOC_DEALLOC_GREF: Opcode = gnt(6, size_of::<Run>());
/// Argument: [`UnmapNotify`].
pub const GNTALLOC_SET_UNMAP_NOTIFY: Opcode = gnt(7, size_of::<UnmapNotify>());
/// Argument: the virq. Returns the port.
pub const EVTCHN_BIND_VIRQ: Opcode = evtchn(0, 4);
/// Argument: the remote domid and the remote port. Returns the port.
pub const EVTCHN_BIND_INTERDOMAIN: Opcode = evtchn(1, 8);
/// Argument: the remote domid. Returns the port.
pub const EVTCHN_BIND_UNBOUND_PORT: Opcode = evtchn(2, 4);
/// Argument: the port.
pub const EVTCHN_UNBIND: Opcode = evtchn(3, 4);
/// Argument: the port.
pub const EVTCHN_NOTIFY: Opcode = evtchn(4, 4);
/// Argument: none. Empties the ring of pending ports and ends its overflow.
pub const EVTCHN_RESET: Opcode = evtchn(5, 0);

/// Words before the elements in the two structs of variable length: of MAP_GRANT_REF and
/// ALLOC_GREF.
pub const HEADER_WORDS: usize = 4;

/// Reads the mmap index from the header of a struct of variable length.
pub fn index_of(words: &[u32]) -> u64 {
    let word = |at: usize| u64::from(words.get(at).copied().unwrap_or_default());
    word(2) | word(3) << 32
}

/// `ioctl_gntdev_unmap_grant_ref` and `ioctl_gntalloc_dealloc_gref`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct Run {
    /// The index that the driver set when it made the run.
    pub index: u64,
    /// Number of pages.
    pub count: u32,
    /// Unused.
    pub pad: u32,
}

/// `ioctl_gntdev_unmap_notify` and `ioctl_gntalloc_unmap_notify`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct UnmapNotify {
    /// The run's index plus the offset of the byte to clear.
    pub index: u64,
    /// [`UNMAP_NOTIFY_CLEAR_BYTE`] and [`UNMAP_NOTIFY_SEND_EVENT`].
    pub action: u32,
    /// The local port to notify.
    pub event_channel_port: u32,
}

/// Action: set the byte at `index` to 0.
pub const UNMAP_NOTIFY_CLEAR_BYTE: u32 = 1;
/// Action: notify `event_channel_port`.
pub const UNMAP_NOTIFY_SEND_EVENT: u32 = 2;

/// One side of a copy: local memory, or a granted page of another domain.
#[repr(C)]
#[derive(Clone, Copy)]
pub union CopySide {
    /// Address of local memory.
    pub local: *mut c_void,
    /// A granted page.
    pub foreign: CopyForeign,
}

/// The granted page of a [`CopySide`].
#[repr(C)]
#[derive(Clone, Copy)]
pub struct CopyForeign {
    /// The reference.
    pub gref: u32,
    /// Offset of the first byte within the page.
    pub offset: u16,
    /// The granting domain.
    pub domid: u16,
}

/// `ioctl_gntdev_grant_copy_segment`
#[repr(C)]
#[derive(Clone, Copy)]
pub struct CopySegment {
    /// Side that the bytes are copied from.
    pub source: CopySide,
    /// Side that the bytes are copied to.
    pub dest: CopySide,
    /// Number of bytes.
    pub len: u16,
    /// [`COPY_SOURCE_IS_GRANT`] or [`COPY_DEST_IS_GRANT`].
    pub flags: u16,
    /// Set by the driver: 0 or a negative GNTST_* code.
    pub status: i16,
}

/// `GNTCOPY_source_gref`
pub const COPY_SOURCE_IS_GRANT: u16 = 1;
/// `GNTCOPY_dest_gref`
pub const COPY_DEST_IS_GRANT: u16 = 2;

/// `ioctl_gntdev_grant_copy`
#[repr(C)]
pub struct GrantCopy {
    /// Number of segments.
    pub count: u32,
    /// The segments.
    pub segments: *mut CopySegment,
}

/// Flag: the other domain may write to the pages.
pub const GNTALLOC_FLAG_WRITABLE: u32 = 1;

#[cfg(test)]
mod tests {
    use super::*;

    /// The expected values were printed by a C program that includes Xen's own headers.
    #[test]
    fn numbers_are_those_of_the_headers() {
        assert_eq!(GNTDEV_MAP_GRANT_REF, 0x18_4700);
        assert_eq!(GNTDEV_UNMAP_GRANT_REF, 0x10_4701);
        assert_eq!(GNTDEV_SET_UNMAP_NOTIFY, 0x10_4707);
        assert_eq!(GNTDEV_GRANT_COPY, 0x10_4708);
        assert_eq!(GNTALLOC_ALLOC_GREF, 0x18_4705);
        assert_eq!(GNTALLOC_DEALLOC_GREF, 0x10_4706);
        assert_eq!(GNTALLOC_SET_UNMAP_NOTIFY, 0x10_4707);
        assert_eq!(EVTCHN_BIND_VIRQ, 0x4_4500);
        assert_eq!(EVTCHN_BIND_INTERDOMAIN, 0x8_4501);
        assert_eq!(EVTCHN_BIND_UNBOUND_PORT, 0x4_4502);
        assert_eq!(EVTCHN_UNBIND, 0x4_4503);
        assert_eq!(EVTCHN_NOTIFY, 0x4_4504);
        assert_eq!(EVTCHN_RESET, 0x4505);
        assert_eq!(size_of::<CopySegment>(), 24);
        assert_eq!(std::mem::offset_of!(CopySegment, len), 16);
        assert_eq!(std::mem::offset_of!(CopySegment, status), 20);
    }
}
