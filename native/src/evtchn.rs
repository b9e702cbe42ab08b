//! /dev/xen/evtchn: event channels, delivered in batches.
//!
//! Reading a port masks it until the port is written back. The driver keeps one queue of pending
//! ports per open file. When that queue overflows, reads fail with EFBIG until a RESET, which
//! empties it. Ports in the emptied queue stay masked, and their events are never reported. So
//! after an overflow JavaScript is told to treat every bound port as pending. A spurious event is
//! harmless; a lost one is not.
//!
//! The queue can overflow on every kernel. Linux before 4.7 has room for 1024 ports. Later kernels
//! make room for all bound ports, but an unbound port leaves its entry in the queue. The driver may
//! also read a stale value of the reader's index and take the queue for full.

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

/// Passed to JavaScript instead of a number of ports when the driver's queue has overflowed.
const OVERFLOWED: i32 = 0;

/// Ports that fit into a page: the driver's own limit for one read and for one write.
const BATCH: usize = PAGE_SIZE as usize / size_of::<u32>();

struct State {
    /// The device and two pages of the arena: pending ports, then ports to unmask. `None` once
    /// closed.
    open: RefCell<Option<(Device, Pinned)>>,
    bound: RefCell<BTreeMap<u32, Token>>,
}

impl State {
    /// Runs `f` on the open device and its pages, or fails if the device is closed.
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

    /// Unmasks the first `count` ports of the table's second page with one write. Returns the
    /// number of bytes written.
    fn unmask(&self, count: u32) -> Result<u32> {
        if count as usize > BATCH {
            return Err(out_of_range(format!(
                "\"count\" expected an integer 0..{BATCH}, got {count}"
            )));
        }
        let written = self.with(|device, table| {
            // SAFETY: the second page has room for `count` ports. JavaScript can't change it during
            // this call, because JavaScript runs on this thread.
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

    /// Reads pending ports once, so that a storm of events can't block the event loop. Ports that
    /// are left make the descriptor readable again.
    fn on_ready(&self, poll: &Poll, failed: bool) -> std::result::Result<(), Errno> {
        let read = self.with(|device, pending| {
            // SAFETY: this is the whole first page. The kernel writes to it; JavaScript can't,
            // because it runs on this thread.
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
        // The device reports an overflow as an error, after which libuv stops polling: start again.
        if failed { poll.watch(true).map_err(|_| Errno::BADF) } else { Ok(()) }
    }

    /// Empties the driver's queue and ends its overflow.
    fn reset(&self) -> std::result::Result<(), Errno> {
        // SAFETY: this ioctl takes no argument.
        let reset =
            self.with(|device, _| unsafe { device.ioctl(uapi::EVTCHN_RESET, &mut [0u32; 0]) });
        reset.unwrap_or(Err(Errno::BADF)).map(|_| ())
    }
}

/// The JavaScript class `Evtchn`; its contract is in index.d.ts.
#[napi]
pub struct Evtchn {
    state: Rc<State>,
    poll: Poll,
}

#[napi]
impl Evtchn {
    /// Opens the device. `table` is the arena offset of two pages that `allocate` returned.
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

    /// Binds a local port to another domain's unbound port; returns the local port.
    #[napi(catch_unwind)]
    pub fn bind_interdomain(&self, domid: u16, port: u32) -> Result<u32> {
        self.bind(
            (uapi::EVTCHN_BIND_INTERDOMAIN, "IOCTL_EVTCHN_BIND_INTERDOMAIN"),
            [u32::from(domid), port],
        )
    }

    /// Allocates a port that domain `domid` may bind to; returns it.
    #[napi(catch_unwind)]
    pub fn bind_unbound(&self, domid: u16) -> Result<u32> {
        self.bind(
            (uapi::EVTCHN_BIND_UNBOUND_PORT, "IOCTL_EVTCHN_BIND_UNBOUND_PORT"),
            [u32::from(domid)],
        )
    }

    /// Binds a local port to a virtual interrupt; returns the port.
    #[napi(catch_unwind)]
    pub fn bind_virq(&self, virq: u32) -> Result<u32> {
        self.bind((uapi::EVTCHN_BIND_VIRQ, "IOCTL_EVTCHN_BIND_VIRQ"), [virq])
    }

    /// Makes the JavaScript function that notifies a port.
    #[napi(catch_unwind)]
    pub fn create_notify<'env>(&self, env: &'env Env) -> Result<Unknown<'env>> {
        let state = Rc::clone(&self.state);
        function::create(env, c"notify", move |port: [u32; 1]| {
            state.ioctl((uapi::EVTCHN_NOTIFY, "IOCTL_EVTCHN_NOTIFY"), port)
        })
    }

    /// Makes the JavaScript function that unmasks the first ports of the table's second page.
    #[napi(catch_unwind)]
    pub fn create_unmask<'env>(&self, env: &'env Env) -> Result<Unknown<'env>> {
        let state = Rc::clone(&self.state);
        function::create(env, c"unmask", move |[count]: [u32; 1]| state.unmask(count))
    }

    /// Unbinds a port. An event that was read before may still be delivered. Does nothing after
    /// `close`.
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
