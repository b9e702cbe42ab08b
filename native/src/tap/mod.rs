//! TAP devices: network interfaces whose frames a program sends and receives.
//!
//! Each frame is preceded by a `virtio_net_hdr`, by which frames with a blank checksum and TCP
//! segments of up to 64 KiB pass unchanged. JavaScript describes the frames of a batch in a table.

mod header;
mod interface;
mod queue;
mod table;
mod transfers;

use std::cell::RefCell;
use std::rc::Rc;

use napi::bindgen_prelude::{Env, Unknown};
use napi_derive::napi;
use rustix::io::Errno;

use self::interface::Interface;
use self::queue::{PLACE, Queue};
use self::table::TapLayout;
use crate::bytes::Span;
use crate::errors::{CLOSED, Result, failure, out_of_range};
use crate::function;
use crate::poll::{Callback, Poll};
use crate::shown::show;

/// Most frames of a table.
const FRAMES: u32 = 1024;

/// The queue; `None` once closed.
type State = RefCell<Option<Queue>>;

fn with<T>(state: &State, f: impl FnOnce(&mut Queue) -> Result<T>) -> Result<T> {
    state.borrow_mut().as_mut().map_or_else(|| Err(failure(CLOSED, "the TAP device is closed")), f)
}

/// The JavaScript class `TapDevice`; its contract is in index.d.ts.
#[napi]
pub struct TapDevice {
    state: Rc<State>,
    poll: Poll,
}

#[napi]
impl TapDevice {
    /// Opens a queue. Without `kind`, it uses io_uring if the system allows that.
    #[napi(constructor, catch_unwind)]
    pub fn new(
        env: Env,
        name: String,
        multi_queue: bool,
        frames: u32,
        on_ready: Callback,
        kind: Option<String>,
    ) -> Result<Self> {
        if frames == 0 || frames > FRAMES {
            return Err(out_of_range(format!(
                "\"frames\" expected an integer 1..{FRAMES}, got {frames}"
            )));
        }
        let calls = match kind.as_deref() {
            None => false,
            Some("calls") => true,
            Some(kind) => {
                return Err(out_of_range(format!("\"kind\" expected 'calls', got '{kind}'")));
            }
        };
        let queue = Queue::new(Interface::open(&name, multi_queue)?, frames, calls)?;
        let fd = queue.interface().device().raw();
        let state = Rc::new(RefCell::new(Some(queue)));
        // The poll owns the state too, so the device is closed with the environment.
        let owned = Rc::clone(&state);
        let ready = move |poll: &Poll, failed| {
            let open = owned.borrow().is_some();
            if open {
                poll.call(if failed { -Errno::BADFD.raw_os_error() } else { 0 });
            }
        };
        let poll = Poll::open(&env, fd, on_ready, Box::new(ready))?;
        poll.keep_alive(true);
        Ok(Self { state, poll })
    }

    fn with<T>(&self, f: impl FnOnce(&mut Queue) -> Result<T>) -> Result<T> {
        with(&self.state, f)
    }

    /// How a call's frames are moved: `'io_uring'` or `'calls'`.
    #[napi(getter)]
    pub fn kind(&self) -> Result<&'static str> {
        self.with(|queue| Ok(if queue.by_ring() { "io_uring" } else { "calls" }))
    }

    /// The interface's name.
    #[napi(catch_unwind)]
    pub fn name(&self) -> Result<String> {
        self.with(|queue| queue.interface().name())
    }

    /// Bytes between the places of received frames.
    #[napi(getter)]
    pub fn place(&self) -> u32 {
        PLACE
    }

    /// Makes the ArrayBuffer of the table. Call this once: V8 allows one buffer per address.
    #[napi(catch_unwind)]
    pub fn create_table<'env>(&self, env: &'env Env) -> Result<Unknown<'env>> {
        show(env, &self.with(|queue| Ok(std::sync::Arc::clone(queue.table())))?)
    }

    /// Byte offsets of the table's columns in its ArrayBuffer.
    #[napi(catch_unwind)]
    pub fn table_layout(&self) -> Result<TapLayout> {
        self.with(|queue| Ok(queue.table().layout()))
    }

    /// Makes the JavaScript function that sends frames.
    #[napi(catch_unwind)]
    pub fn create_write<'env>(&self, env: &'env Env) -> Result<Unknown<'env>> {
        let state = Rc::clone(&self.state);
        function::create(env, c"write", move |(memory, count): (Span, u32)| {
            with(&state, |queue| queue.write(memory, count))
        })
    }

    /// Makes the JavaScript function that receives frames.
    #[napi(catch_unwind)]
    pub fn create_read<'env>(&self, env: &'env Env) -> Result<Unknown<'env>> {
        let state = Rc::clone(&self.state);
        function::create(env, c"read", move |(memory, count): (Span, u32)| {
            with(&state, |queue| queue.read(memory, count))
        })
    }

    /// Sets whether `onReady` is called for frames; for a failure it always is.
    #[napi(catch_unwind)]
    pub fn watch(&self, on: bool) -> Result<()> {
        self.poll.watch(on)
    }

    /// Sets which incomplete frames `read` may deliver.
    #[napi(catch_unwind)]
    pub fn set_offloads(&self, flags: u32) -> Result<()> {
        self.with(|queue| queue.interface().set_offloads(flags))
    }

    /// Sets whether the interface stays when its last queue is closed.
    #[napi(catch_unwind)]
    pub fn set_persistent(&self, on: bool) -> Result<()> {
        self.with(|queue| queue.interface().set_persistent(on))
    }

    /// Sets the interface's carrier.
    #[napi(catch_unwind)]
    pub fn set_carrier(&self, on: bool) -> Result<()> {
        self.with(|queue| queue.interface().set_carrier(on))
    }

    /// Sets the interface up or down.
    #[napi(catch_unwind)]
    pub fn set_up(&self, up: bool) -> Result<()> {
        self.with(|queue| queue.interface().set_up(up))
    }

    /// Sets the interface's MTU.
    #[napi(catch_unwind)]
    pub fn set_mtu(&self, mtu: u32) -> Result<()> {
        self.with(|queue| queue.interface().set_mtu(mtu))
    }

    /// Closes the queue. Idempotent.
    #[napi(catch_unwind)]
    pub fn close(&self) {
        self.poll.close();
        self.state.borrow_mut().take();
    }
}
