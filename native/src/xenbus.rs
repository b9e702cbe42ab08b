//! /dev/xen/xenbus: the kernel's own connection to xenstored, as a stream of bytes.
//!
//! The driver (drivers/xen/xenbus/xenbus_dev_frontend.c) processes one message per write and drops
//! bytes after it. So the caller passes whole messages, one at a time. The driver takes a write
//! whole or refuses it. It never returns EAGAIN and never reports writability, so there is no send
//! queue here.

use std::cell::RefCell;
use std::rc::Rc;

use napi::bindgen_prelude::Env;
use napi_derive::napi;
use rustix::io::Errno;

use crate::arena::Arena;
use crate::device::Device;
use crate::errors::{CLOSED, Result, failure, os};
use crate::memory::PAGE_SIZE;
use crate::poll::{Callback, Poll};
use crate::runs::Pinned;

/// The device, and a page of the arena to read into; `None` once closed.
type Open = RefCell<Option<(Device, Pinned)>>;

/// Reads from the device once per wake of the event loop.
fn on_ready(open: &Open, poll: &Poll) -> std::result::Result<(), Errno> {
    let read = match open.borrow().as_ref() {
        Some((device, page)) => {
            let page = page.address().cast::<u8>().as_ptr();
            // SAFETY: this is a whole page. The kernel writes to it; JavaScript can't, because it
            // runs on this thread.
            rustix::io::read(device, unsafe {
                std::slice::from_raw_parts_mut(page, PAGE_SIZE as usize)
            })
        }
        None => Err(Errno::BADF),
    };
    match read {
        Ok(0) => Err(Errno::PIPE),
        Ok(bytes) => {
            poll.call(bytes as i32);
            Ok(())
        }
        Err(Errno::AGAIN | Errno::INTR) => Ok(()),
        Err(errno) => Err(errno),
    }
}

fn stop(open: &Open, poll: &Poll) {
    poll.close();
    open.borrow_mut().take();
}

/// The JavaScript class `XenbusDevice`; its contract is in index.d.ts.
#[napi]
pub struct XenbusDevice {
    open: Rc<Open>,
    poll: Poll,
}

#[napi]
impl XenbusDevice {
    /// Opens the device. `page` is the arena offset of a page that `allocate` returned.
    #[napi(constructor, strict, catch_unwind)]
    pub fn new(
        env: Env,
        arena: &Arena,
        path: String,
        page: u32,
        on_data: Callback,
    ) -> Result<Self> {
        let device = Device::open(&path)?;
        let fd = device.raw();
        let page = Pinned::new(arena.runs(), page, PAGE_SIZE as usize)?;
        let open = Rc::new(RefCell::new(Some((device, page))));
        let for_ready = Rc::clone(&open);
        let ready = move |poll: &Poll, _| {
            if let Err(errno) = on_ready(&for_ready, poll) {
                poll.call(-errno.raw_os_error());
                stop(&for_ready, poll);
            }
        };
        let poll = Poll::open(&env, fd, on_data, Box::new(ready))?;
        poll.keep_alive(true);
        Ok(Self { open, poll })
    }

    /// Sends the bytes of one message. The driver consumes a message even if it refuses it, so
    /// later messages can be sent.
    #[napi(catch_unwind)]
    pub fn write(&self, mut bytes: &[u8]) -> Result<()> {
        let open = self.open.borrow();
        let (device, _) = open.as_ref().ok_or_else(|| failure(CLOSED, "the stream is closed"))?;
        while !bytes.is_empty() {
            match rustix::io::write(device, bytes) {
                Ok(written) => bytes = bytes.get(written..).unwrap_or_default(),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(os("write to the xenbus device")(errno)),
            }
        }
        Ok(())
    }

    /// Closes the device. Idempotent.
    #[napi(catch_unwind)]
    pub fn close(&self) {
        stop(&self.open, &self.poll);
    }
}
