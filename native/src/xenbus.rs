//! /dev/xen/xenbus: the kernel's own connection to xenstored, as a stream of bytes.
//!
//! Each `write` of JavaScript's is one write to the device. The driver acts on one message per write
//! and drops bytes that follow it, so the caller gives whole messages one at a time.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

use napi::bindgen_prelude::Env;
use napi_derive::napi;
use rustix::io::Errno;

use crate::arena::Arena;
use crate::device::Device;
use crate::errors::{Result, os};
use crate::memory::PAGE_SIZE;
use crate::poll::{Callback, Poll};
use crate::runs::Pinned;
use crate::uv::{READABLE, WRITABLE};

struct State {
    /// With a page of the arena for what was read. `None` once closed.
    open: RefCell<Option<(Device, Pinned)>>,
    /// What the device didn't take at once.
    unsent: RefCell<VecDeque<Vec<u8>>>,
    watching: Cell<i32>,
}

impl State {
    /// One read per wake; flushes first.
    fn on_ready(&self, poll: &Poll) -> std::result::Result<(), Errno> {
        self.flush()?;
        self.watch(poll);
        let read = match self.open.borrow().as_ref() {
            Some((device, page)) => {
                let page = page.address().cast::<u8>().as_ptr();
                // SAFETY: a whole page; the kernel writes to it, JavaScript, on this thread, isn't running.
                rustix::io::read(device, unsafe { std::slice::from_raw_parts_mut(page, PAGE_SIZE as usize) })
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

    /// Writes as much as the device takes.
    fn flush(&self) -> std::result::Result<(), Errno> {
        let open = self.open.borrow();
        let (device, _) = open.as_ref().ok_or(Errno::BADF)?;
        let mut unsent = self.unsent.borrow_mut();
        while let Some(bytes) = unsent.front_mut() {
            match rustix::io::write(device, bytes) {
                Ok(written) => {
                    bytes.drain(..written);
                    if bytes.is_empty() {
                        unsent.pop_front();
                    }
                }
                Err(Errno::AGAIN) => break,
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno),
            }
        }
        Ok(())
    }

    /// Waits for room only while something is unsent.
    fn watch(&self, poll: &Poll) {
        let events = if self.unsent.borrow().is_empty() { READABLE } else { READABLE | WRITABLE };
        if self.watching.replace(events) != events {
            // Fails only for arguments that are wrong: these were right in `Poll::open`.
            let _ = poll.watch(events);
        }
    }

    fn stop(&self, poll: &Poll) {
        poll.close();
        self.unsent.borrow_mut().clear();
        self.open.borrow_mut().take();
    }
}

/// See index.d.ts.
#[napi]
pub struct XenbusDevice {
    state: Rc<State>,
    poll: Poll,
}

#[napi]
impl XenbusDevice {
    /// Opens the device. `page` is the offset of a page got by `allocate`.
    #[napi(constructor, strict, catch_unwind)]
    pub fn new(env: Env, arena: &Arena, path: String, page: u32, on_data: Callback) -> Result<Self> {
        let device = Device::open(&path)?;
        let fd = device.raw();
        let page = Pinned::new(arena.runs(), page, PAGE_SIZE as usize)?;
        let open = RefCell::new(Some((device, page)));
        let state = Rc::new(State { open, unsent: RefCell::default(), watching: Cell::new(READABLE) });
        let for_ready = Rc::clone(&state);
        let ready = move |poll: &Poll, _| {
            if let Err(errno) = for_ready.on_ready(poll) {
                poll.call(-errno.raw_os_error());
                for_ready.stop(poll);
            }
        };
        let poll = Poll::open(&env, fd, on_data, Box::new(ready))?;
        poll.keep_alive(true);
        Ok(Self { state, poll })
    }

    /// Takes the bytes of one message.
    #[napi(catch_unwind)]
    pub fn write(&self, bytes: &[u8]) -> Result<()> {
        self.state.unsent.borrow_mut().push_back(bytes.to_vec());
        self.state.flush().map_err(os("write to the xenbus device"))?;
        self.state.watch(&self.poll);
        Ok(())
    }

    /// Closes the device; what is unsent is dropped. Idempotent.
    #[napi(catch_unwind)]
    pub fn close(&self) {
        self.state.stop(&self.poll);
    }
}
