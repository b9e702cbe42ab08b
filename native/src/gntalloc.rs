//! /dev/xen/gntalloc: grants pages of this domain to another domain.

use std::cell::RefCell;
use std::rc::Rc;

use napi_derive::napi;

use crate::arena::Arena;
use crate::counters::Token;
use crate::device::Device;
use crate::errors::{CLOSED, Result, failure, os};
use crate::runs::{Backing, Runs};
use crate::uapi::{self, HEADER_WORDS};

/// The JavaScript class `Gntalloc`; its contract is in index.d.ts.
#[napi]
pub struct Gntalloc {
    runs: Rc<Runs>,
    device: RefCell<Option<Rc<Device>>>,
}

/// Pages granted to another domain by one call of `share`.
#[napi(object)]
pub struct Share {
    /// Arena offset of the first page.
    pub offset: u32,
    /// One grant reference per page.
    pub grefs: Vec<u32>,
}

#[napi]
impl Gntalloc {
    /// Opens the device at `path`, which is /dev/xen/gntalloc except in tests.
    #[napi(constructor, catch_unwind)]
    pub fn new(arena: &Arena, path: String) -> Result<Self> {
        Ok(Self { runs: arena.runs(), device: RefCell::new(Some(Rc::new(Device::open(&path)?))) })
    }

    /// Allocates zeroed pages and grants them to `domid`.
    #[napi(catch_unwind)]
    pub fn share(&self, domid: u16, pages: u32, writable: bool) -> Result<Share> {
        let device = self
            .device
            .borrow()
            .clone()
            .ok_or_else(|| failure(CLOSED, "the grant device is closed"))?;
        let run = self.runs.take(pages)?;
        let flags = if writable { uapi::GNTALLOC_FLAG_WRITABLE } else { 0 };
        let mut words = vec![0u32; HEADER_WORDS + pages as usize];
        words.splice(..2, [u32::from(domid) | flags << 16, pages]);
        // SAFETY: the words form the struct that the ioctl takes, with room for `pages` references.
        if let Err(errno) = unsafe { device.ioctl(uapi::GNTALLOC_ALLOC_GREF, words.as_mut_slice()) }
        {
            self.runs.give_back(run);
            return Err(os("IOCTL_GNTALLOC_ALLOC_GREF")(errno));
        }
        let index = uapi::index_of(&words);
        if let Err(errno) = self.runs.map_device(run, &device, index, true) {
            let mut argument = uapi::Run { index, count: pages, pad: 0 };
            // SAFETY: the ioctl takes this struct, and it holds no pointer.
            let _ = unsafe { device.ioctl(uapi::GNTALLOC_DEALLOC_GREF, &mut argument) };
            return Err(os("mmap of shared pages")(errno));
        }
        let backing = Backing {
            device,
            end: (uapi::GNTALLOC_DEALLOC_GREF, "IOCTL_GNTALLOC_DEALLOC_GREF"),
            notify: (uapi::GNTALLOC_SET_UNMAP_NOTIFY, "IOCTL_GNTALLOC_SET_UNMAP_NOTIFY"),
            index,
            _token: Token::share(),
        };
        let offset = self.runs.commit(run, Some(backing));
        Ok(Share { offset, grefs: words.split_off(HEADER_WORDS) })
    }

    /// Closes the device after its last share has ended. Idempotent.
    #[napi(catch_unwind)]
    pub fn close(&self) {
        self.device.borrow_mut().take();
    }
}
