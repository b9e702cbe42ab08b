//! The part of libuv used here: polling a file descriptor on the environment's own event loop.
//!
//! The functions are looked up in the running process instead of linked. The host program contains
//! libuv, so there is no library to link against. In a runtime without libuv, polling fails with an
//! error of its own, and `cargo test`, which runs outside Node, can link. Handles are opaque, with
//! a size from `uv_handle_size`. So no struct layout of one libuv version is assumed, which is why
//! no bindings crate is used.

use std::ffi::{c_char, c_int, c_void};
use std::sync::OnceLock;

use libloading::os::unix::Library;
use rustix::io::Errno;

/// `UV_READABLE`
pub const READABLE: c_int = 1;
/// `UV_DISCONNECT`. A failed device is reported with this event too.
pub const DISCONNECT: c_int = 4;
/// `UV_POLL` in `uv_handle_type`; libuv's ABI has kept the number since 1.0.
const POLL_TYPE: c_int = 8;

/// A `uv_handle_t` or `uv_loop_t`; this crate never reads its fields.
pub type Opaque = c_void;
/// `uv_poll_cb`
pub type PollCallback = unsafe extern "C" fn(handle: *mut Opaque, status: c_int, events: c_int);
/// `uv_close_cb`
pub type CloseCallback = unsafe extern "C" fn(handle: *mut Opaque);

/// libuv's functions, each with the parameters in libuv's manual. All except `err_name_r` must be
/// called on the event loop's thread.
#[allow(missing_docs)]
pub struct Uv {
    handle_size: unsafe extern "C" fn(c_int) -> usize,
    err_name_r: unsafe extern "C" fn(c_int, *mut c_char, usize) -> *mut c_char,
    pub poll_init: unsafe extern "C" fn(*mut Opaque, *mut Opaque, c_int) -> c_int,
    pub poll_start: unsafe extern "C" fn(*mut Opaque, c_int, PollCallback) -> c_int,
    pub close: unsafe extern "C" fn(*mut Opaque, CloseCallback),
    pub keep_alive: unsafe extern "C" fn(*mut Opaque),
    pub let_go: unsafe extern "C" fn(*mut Opaque),
    pub set_data: unsafe extern "C" fn(*mut Opaque, *mut c_void),
    pub get_data: unsafe extern "C" fn(*const Opaque) -> *mut c_void,
}

impl Uv {
    /// libuv of the host program; `None` in a process without libuv.
    pub fn get() -> Option<&'static Self> {
        static UV: OnceLock<Option<Uv>> = OnceLock::new();
        UV.get_or_init(Self::find).as_ref()
    }

    fn find() -> Option<Self> {
        let process = Library::this();
        macro_rules! symbol {
            ($name:literal) => {
                // SAFETY: the field types match libuv's uv.h, which is stable through 1.x. The
                // library is the running program itself, which is never unloaded, so the pointer
                // may outlive `process`.
                *unsafe { process.get(concat!($name, "\0").as_bytes()) }.ok()?
            };
        }
        Some(Self {
            handle_size: symbol!("uv_handle_size"),
            err_name_r: symbol!("uv_err_name_r"),
            poll_init: symbol!("uv_poll_init"),
            poll_start: symbol!("uv_poll_start"),
            close: symbol!("uv_close"),
            keep_alive: symbol!("uv_ref"),
            let_go: symbol!("uv_unref"),
            set_data: symbol!("uv_handle_set_data"),
            get_data: symbol!("uv_handle_get_data"),
        })
    }

    /// Bytes of a `uv_poll_t`.
    pub fn poll_size(&self) -> usize {
        // SAFETY: the function takes an enumerator and reads nothing else.
        unsafe { (self.handle_size)(POLL_TYPE) }
    }

    /// The name of an errno, such as `EINVAL`.
    pub fn error_name(&self, errno: Errno) -> Option<String> {
        let mut name = [0u8; 64];
        // SAFETY: the function writes at most the given length, including the terminating NUL.
        unsafe { (self.err_name_r)(-errno.raw_os_error(), name.as_mut_ptr().cast(), name.len()) };
        let text = std::ffi::CStr::from_bytes_until_nul(&name).ok()?;
        Some(text.to_str().ok()?.to_owned())
    }
}
