//! /dev/xen/evtchn: event channels, delivered in batches.
//!
//! Reading a port masks it until it is written back. The driver keeps one queue of pending ports
//! per open file. When the queue overflows, reads fail with EFBIG until a RESET, which empties it:
//! ports that were in it stay masked and nobody is told of their events. So JavaScript is then told
//! to treat every bound port as pending. An event too many is harmless; one lost is not.
//!
//! Every kernel can overflow. Linux before 4.7 has room for 1024 ports. Later ones make room for as
//! many as are bound, but a port that is unbound leaves its entry behind, and the driver may see an
//! old value of the reader's index and take the queue for full.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ptr::NonNull;
use std::rc::Rc;

use napi::bindgen_prelude::{Env, Unknown};
use napi_derive::napi;
use rustix::io::Errno;
use rustix::ioctl::Opcode;

use crate::arena::Arena;
use crate::counters::Token;
use crate::device::Device;
use crate::errors::{CLOSED, Result, failure, os, out_of_range};
use crate::function;
use crate::memory::PAGE_SIZE;
use crate::poll::{Callback, Poll};
use crate::runs::Pinned;
use crate::uapi;

/// What JavaScript is told instead of a number of ports when the driver's queue has overflowed.
const OVERFLOWED: i32 = 0;

/// Ports in a page: what one read gives and one write takes at most, by the driver's own limit.
const BATCH: usize = PAGE_SIZE as usize / size_of::<u32>();

struct State {
    /// With two pages of the arena: pending ports, then ports to unmask. `None` once closed.
    open: RefCell<Option<(Device, Pinned)>>,
    bound: RefCell<BTreeMap<u32, Token>>,
}

impl State {
    /// Runs on the open device and its pages.
    fn with<T>(&self, f: impl FnOnce(&Device, NonNull<u32>) -> T) -> Result<T> {
        match self.open.borrow().as_ref() {
            Some((device, table)) => Ok(f(device, table.address().cast())),
            None => Err(failure(CLOSED, "the event-channel device is closed")),
        }
    }

    fn ioctl<const WORDS: usize>(
        &self,
        (opcode, operation): (Opcode, &str),
        mut argument: [u32; WORDS],
    ) -> Result<u32> {
        // SAFETY: every event-channel ioctl takes this many 32-bit words and no pointer.
        self.with(|device, _| unsafe { device.ioctl(opcode, &mut argument) })?
            .map_err(os(format!("{operation} {argument:?}")))
    }

    /// Unmasks the first `count` ports of the table's second page, in one write; returns the bytes
    /// written.
    fn unmask(&self, count: u32) -> Result<u32> {
        if count as usize > BATCH {
            return Err(out_of_range(format!(
                "\"count\" expected an integer 0..{BATCH}, got {count}"
            )));
        }
        let written = self.with(|device, table| {
            // SAFETY: `count` ports of the second page; JavaScript, on this thread, isn't running.
            let ports = unsafe {
                std::slice::from_raw_parts(
                    table.add(BATCH).as_ptr().cast::<u8>(),
                    count as usize * size_of::<u32>(),
                )
            };
            rustix::io::write(device, ports)
        })?;
        Ok(written.map_err(os("write to unmask event channels"))? as u32)
    }

    /// One read, so that a storm can't hold the loop: what is left wakes it again.
    fn on_ready(&self, poll: &Poll, failed: bool) -> std::result::Result<(), Errno> {
        let read = self.with(|device, pending| {
            // SAFETY: the first page; the kernel writes to it, JavaScript, on this thread, isn't
            // running.
            let buffer = unsafe {
                std::slice::from_raw_parts_mut(pending.as_ptr().cast::<u8>(), PAGE_SIZE as usize)
            };
            rustix::io::read(device, buffer)
        });
        match read.unwrap_or(Err(Errno::BADF)) {
            Ok(0) => return Err(Errno::PIPE),
            Ok(bytes) => poll.call((bytes / size_of::<u32>()) as i32),
            Err(Errno::FBIG) => {
                self.reset()?;
                poll.call(OVERFLOWED);
            }
            Err(Errno::AGAIN | Errno::INTR) if !failed => {}
            Err(errno) => return Err(errno),
        }
        // libuv stops a poll whose descriptor is in error, which an overflow is.
        if failed { poll.watch().map_err(|_| Errno::BADF) } else { Ok(()) }
    }

    /// Empties the driver's queue.
    fn reset(&self) -> std::result::Result<(), Errno> {
        // SAFETY: takes no argument.
        let reset =
            self.with(|device, _| unsafe { device.ioctl(uapi::EVTCHN_RESET, &mut [0u32; 0]) });
        reset.unwrap_or(Err(Errno::BADF)).map(|_| ())
    }
}

/// See index.d.ts.
#[napi]
pub struct Evtchn {
    state: Rc<State>,
    poll: Poll,
}

#[napi]
impl Evtchn {
    /// Opens the device. `table` is the offset of two pages got by `allocate`.
    #[napi(constructor, strict, catch_unwind)]
    pub fn new(
        env: Env,
        arena: &Arena,
        path: String,
        table: u32,
        on_pending: Callback,
    ) -> Result<Self> {
        let device = Device::open(&path)?;
        let fd = device.raw();
        let table = Pinned::new(arena.runs(), table, 2 * PAGE_SIZE as usize)?;
        let state =
            Rc::new(State { open: RefCell::new(Some((device, table))), bound: RefCell::default() });
        let for_ready = Rc::clone(&state);
        let ready = move |poll: &Poll, failed| {
            if let Err(errno) = for_ready.on_ready(poll, failed) {
                poll.call(-errno.raw_os_error());
                stop(&for_ready, poll);
            }
        };
        let poll = Poll::open(&env, fd, on_pending, Box::new(ready))?;
        Ok(Self { state, poll })
    }

    fn bind<const WORDS: usize>(
        &self,
        operation: (Opcode, &str),
        argument: [u32; WORDS],
    ) -> Result<u32> {
        let port = self.state.ioctl(operation, argument)?;
        self.state.bound.borrow_mut().insert(port, Token::port());
        self.poll.keep_alive(true);
        Ok(port)
    }

    /// Binds to another domain's unbound port; returns the local port.
    #[napi(catch_unwind)]
    pub fn bind_interdomain(&self, domid: u16, port: u32) -> Result<u32> {
        self.bind(
            (uapi::EVTCHN_BIND_INTERDOMAIN, "IOCTL_EVTCHN_BIND_INTERDOMAIN"),
            [u32::from(domid), port],
        )
    }

    /// Opens a port for another domain; returns it.
    #[napi(catch_unwind)]
    pub fn bind_unbound(&self, domid: u16) -> Result<u32> {
        self.bind(
            (uapi::EVTCHN_BIND_UNBOUND_PORT, "IOCTL_EVTCHN_BIND_UNBOUND_PORT"),
            [u32::from(domid)],
        )
    }

    /// Binds to a virtual interrupt; returns the local port.
    #[napi(catch_unwind)]
    pub fn bind_virq(&self, virq: u32) -> Result<u32> {
        self.bind((uapi::EVTCHN_BIND_VIRQ, "IOCTL_EVTCHN_BIND_VIRQ"), [virq])
    }

    /// Makes the function that sends an event to a port.
    #[napi(catch_unwind)]
    pub fn create_notify<'env>(&self, env: &'env Env) -> Result<Unknown<'env>> {
        let state = Rc::clone(&self.state);
        function::create(env, c"notify", move |port: [u32; 1]| {
            state.ioctl((uapi::EVTCHN_NOTIFY, "IOCTL_EVTCHN_NOTIFY"), port)
        })
    }

    /// Makes the function that unmasks the first ports of the table's second page.
    #[napi(catch_unwind)]
    pub fn create_unmask<'env>(&self, env: &'env Env) -> Result<Unknown<'env>> {
        let state = Rc::clone(&self.state);
        function::create(env, c"unmask", move |[count]| state.unmask(count))
    }

    /// Unbinds a port. An event of it that was read already may still be delivered. After `close`
    /// there is nothing left to do.
    #[napi(catch_unwind)]
    pub fn unbind(&self, port: u32) -> Result<()> {
        if self.state.open.borrow().is_none() {
            return Ok(());
        }
        self.state.ioctl((uapi::EVTCHN_UNBIND, "IOCTL_EVTCHN_UNBIND"), [port])?;
        let mut bound = self.state.bound.borrow_mut();
        bound.remove(&port);
        self.poll.keep_alive(!bound.is_empty());
        Ok(())
    }

    /// Closes the device, which unbinds every port. Idempotent.
    #[napi(catch_unwind)]
    pub fn close(&self) {
        stop(&self.state, &self.poll);
    }
}

fn stop(state: &State, poll: &Poll) {
    poll.close();
    state.bound.borrow_mut().clear();
    state.open.borrow_mut().take();
}
