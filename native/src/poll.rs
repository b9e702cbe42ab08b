//! Polls a device on the environment's event loop by `uv_poll`, with one JavaScript call per wake.
//!
//! Lifetime: libuv's handle owns a strong reference to `Inner` until its close callback has run, so
//! nothing dangles, whatever JavaScript drops. JavaScript closes the handle, or at the latest an
//! asynchronous cleanup hook does. The environment's end waits for the hook, in a worker too, so
//! libuv has released the handle before the environment is gone. `process.exit` on the main thread
//! runs no hooks; the kernel then closes all descriptors.

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::cell::{Cell, RefCell};
use std::ffi::{c_int, c_void};
use std::os::fd::RawFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::{NonNull, null_mut};
use std::rc::Rc;

use napi::bindgen_prelude::{Env, Function};
use napi::{JsValue, sys};

use crate::counters::Token;
use crate::errors::{RUNTIME, Result, failure};
use crate::uv::{DISCONNECT, Opaque, READABLE, Uv};

/// A JavaScript function that takes one number.
pub type Callback<'env> = Function<'env, i32, ()>;
/// Called when the device is ready or, with `true`, when polling it failed.
pub type Ready = Box<dyn Fn(&Poll, bool)>;

/// A device that is polled on the event loop.
#[derive(Clone)]
pub struct Poll(Rc<Inner>);

struct Inner {
    uv: &'static Uv,
    env: sys::napi_env,
    handle: NonNull<Opaque>,
    layout: Layout,
    /// Strong reference to the JavaScript callback, deleted together with the handle.
    callback: Cell<sys::napi_ref>,
    cleanup: Cell<sys::napi_async_cleanup_hook_handle>,
    closing: Cell<bool>,
    /// Called when the device is ready. Dropped on close, because it may own the owner of this
    /// poll, which would be a cycle.
    ready: RefCell<Option<Rc<Ready>>>,
    /// Counts the poll. Dropped when libuv has released the handle; JavaScript may keep its own
    /// object for longer.
    token: Cell<Option<Token>>,
}

impl Poll {
    /// Polls `fd` for reading. `fd` must stay open until `close`. The poll doesn't keep the process
    /// alive until `keep_alive(true)`.
    pub fn open(env: &Env, fd: RawFd, callback: Callback, ready: Ready) -> Result<Self> {
        let uv =
            Uv::get().ok_or_else(|| failure(RUNTIME, "this JavaScript runtime has no libuv"))?;
        let mut event_loop = null_mut();
        check(
            // SAFETY: this is the environment's thread.
            unsafe { sys::napi_get_uv_event_loop(env.raw(), &mut event_loop) },
            "napi_get_uv_event_loop",
        )?;
        let layout = Layout::from_size_align(uv.poll_size(), 16)
            .map_err(|_| failure(RUNTIME, "uv_handle_size gave a size that can't be allocated"))?;
        // SAFETY: libuv's handle size isn't 0.
        let handle = NonNull::new(unsafe { alloc_zeroed(layout) }.cast())
            .ok_or_else(|| failure("ENOMEM", "no memory for a uv_poll_t"))?;
        let (env, mut reference) = (env.raw(), null_mut());
        // SAFETY: the callback is a live function of this environment.
        let created = check(
            unsafe { sys::napi_create_reference(env, callback.raw(), 1, &mut reference) },
            "napi_create_reference",
        );
        let initialized = created.and_then(|()| {
            check_uv(
                // SAFETY: the handle has the size libuv asked for, and its alignment suffices.
                unsafe { (uv.poll_init)(event_loop.cast(), handle.as_ptr(), fd) },
                "uv_poll_init",
            )
        });
        if let Err(failure) = initialized {
            // SAFETY: the event loop doesn't know the handle.
            unsafe { dealloc(handle.as_ptr().cast(), layout) };
            delete_reference(env, reference);
            return Err(failure);
        }
        let inner = Rc::new(Inner {
            uv,
            env,
            handle,
            layout,
            callback: Cell::new(reference),
            cleanup: Cell::new(null_mut()),
            closing: Cell::new(false),
            ready: RefCell::new(Some(Rc::new(ready))),
            token: Cell::new(Some(Token::poll())),
        });
        let poll = Self(inner);
        let mut cleanup = null_mut();
        let owned = Rc::into_raw(Rc::clone(&poll.0)).cast_mut().cast::<c_void>();
        // SAFETY: the handle is initialized. `owned` is the reference that `on_close` takes back.
        // The reference outlives the hook, because `on_close` removes the hook.
        let hooked = unsafe {
            (uv.set_data)(handle.as_ptr(), owned);
            (uv.let_go)(handle.as_ptr());
            sys::napi_add_async_cleanup_hook(env, Some(on_teardown), owned, &mut cleanup)
        };
        poll.0.cleanup.set(cleanup);
        let started = check(hooked, "napi_add_async_cleanup_hook").and_then(|()| poll.watch(true));
        if let Err(failure) = started {
            poll.close();
            return Err(failure);
        }
        Ok(poll)
    }

    /// Starts to poll for readability, or only for failure of the device. Called again after
    /// polling failed.
    pub fn watch(&self, readable: bool) -> Result<()> {
        if self.0.closing.get() {
            return Ok(());
        }
        let events = if readable { READABLE } else { DISCONNECT };
        // SAFETY: the handle is initialized and not closing.
        check_uv(
            unsafe { (self.0.uv.poll_start)(self.0.handle.as_ptr(), events, on_event) },
            "uv_poll_start",
        )
    }

    /// Sets whether this poll keeps the process alive.
    pub fn keep_alive(&self, on: bool) {
        if !self.0.closing.get() {
            let set = if on { self.0.uv.keep_alive } else { self.0.uv.let_go };
            // SAFETY: the handle is initialized and not closing.
            unsafe { set(self.0.handle.as_ptr()) };
        }
    }

    /// Calls the JavaScript callback, and runs its microtasks before returning. An exception
    /// becomes an uncaught one.
    pub fn call(&self, argument: i32) {
        let (env, reference) = (self.0.env, self.0.callback.get());
        if self.0.closing.get() {
            return;
        }
        let mut scope = null_mut();
        // SAFETY: this runs on the environment's thread, in a callback of the thread's event loop.
        // Every value belongs to the scope opened here, and the reference lives until `on_close`.
        unsafe {
            if sys::napi_open_handle_scope(env, &mut scope) != sys::Status::napi_ok {
                return;
            }
            let (mut function, mut global, mut value, mut thrown) =
                (null_mut(), null_mut(), null_mut(), null_mut());
            sys::napi_get_reference_value(env, reference, &mut function);
            sys::napi_get_global(env, &mut global);
            sys::napi_create_int32(env, argument, &mut value);
            let status =
                sys::napi_make_callback(env, null_mut(), global, function, 1, &value, null_mut());
            let mut pending = false;
            sys::napi_is_exception_pending(env, &mut pending);
            if status != sys::Status::napi_ok
                && pending
                && sys::napi_get_and_clear_last_exception(env, &mut thrown) == sys::Status::napi_ok
            {
                sys::napi_fatal_exception(env, thrown);
            }
            sys::napi_close_handle_scope(env, scope);
        }
    }

    /// Stops polling for good. The descriptor may be closed as soon as this returns. Idempotent.
    pub fn close(&self) {
        if !self.0.closing.replace(true) {
            // SAFETY: the handle is initialized and closed only once.
            unsafe { (self.0.uv.close)(self.0.handle.as_ptr(), on_close) };
            self.0.ready.borrow_mut().take();
        }
    }
}

/// Makes a new strong reference to the `Inner` behind a pointer that libuv or Node-API passes back.
///
/// # Safety
/// `data` must be the pointer made in `Poll::open`, and `on_close` must not have taken its strong
/// reference yet.
unsafe fn borrow(data: *mut c_void) -> Poll {
    let inner = data.cast::<Inner>().cast_const();
    // SAFETY: the caller vouches that the strong reference behind `data` is alive.
    unsafe {
        Rc::increment_strong_count(inner);
        Poll(Rc::from_raw(inner))
    }
}

unsafe extern "C" fn on_event(handle: *mut Opaque, status: c_int, _: c_int) {
    let Some(uv) = Uv::get() else { return };
    // SAFETY: libuv calls this only for handles that are open.
    let poll = unsafe { borrow((uv.get_data)(handle)) };
    let ready = poll.0.ready.borrow().clone();
    if let Some(ready) = ready {
        // A panic here is a bug of this crate. It must not unwind into libuv, so it closes the
        // device instead.
        if catch_unwind(AssertUnwindSafe(|| ready(&poll, status < 0))).is_err() {
            poll.close();
        }
    }
}

unsafe extern "C" fn on_teardown(_: sys::napi_async_cleanup_hook_handle, data: *mut c_void) {
    // SAFETY: `on_close` removes this hook before it drops the reference.
    unsafe { borrow(data) }.close();
}

unsafe extern "C" fn on_close(handle: *mut Opaque) {
    let Some(uv) = Uv::get() else { return };
    // SAFETY: this takes back the reference that `Poll::open` gave to the handle. libuv calls
    // `on_close` once and doesn't touch the handle afterwards, so the handle's memory can be freed.
    // Removing the hook comes last: it tells a waiting teardown that this handle is finished.
    unsafe {
        let inner = Rc::from_raw((uv.get_data)(handle).cast::<Inner>().cast_const());
        dealloc(handle.cast(), inner.layout);
        delete_reference(inner.env, inner.callback.replace(null_mut()));
        let cleanup = inner.cleanup.replace(null_mut());
        inner.token.take();
        drop(inner);
        if !cleanup.is_null() {
            sys::napi_remove_async_cleanup_hook(cleanup);
        }
    }
}

fn delete_reference(env: sys::napi_env, reference: sys::napi_ref) {
    if !reference.is_null() {
        // SAFETY: each reference is deleted once, on its environment's thread, while the
        // environment lives.
        unsafe { sys::napi_delete_reference(env, reference) };
    }
}

fn check(status: sys::napi_status, operation: &str) -> Result<()> {
    if status == sys::Status::napi_ok {
        Ok(())
    } else {
        Err(failure(RUNTIME, format!("{operation}: status {status}")))
    }
}

fn check_uv(result: c_int, operation: &str) -> Result<()> {
    if result == 0 {
        Ok(())
    } else {
        Err(crate::errors::os(operation)(rustix::io::Errno::from_raw_os_error(-result)))
    }
}
