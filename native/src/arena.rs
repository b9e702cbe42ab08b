//! An arena as JavaScript sees it: one ArrayBuffer over its whole address range.

use std::ffi::c_void;
use std::rc::Rc;

use napi::bindgen_prelude::{Env, Unknown};
use napi::sys;
use napi_derive::napi;

use crate::errors::{RUNTIME, Result, failure, out_of_range};
use crate::memory::{Memory, PAGE_SHIFT};
use crate::runs::Runs;

/// The JavaScript class `Arena`; its contract is in index.d.ts.
#[napi]
pub struct Arena {
    runs: Rc<Runs>,
}

#[napi]
impl Arena {
    /// Reserves `pages` pages, 1..1048576 (4 GiB, so that an offset fits 32 bits).
    #[napi(constructor, catch_unwind)]
    pub fn new(pages: u32) -> Result<Self> {
        if pages == 0 || pages > 1 << (32 - PAGE_SHIFT) {
            return Err(out_of_range(format!(
                "\"pages\" expected an integer 1..1048576, got {pages}"
            )));
        }
        Ok(Self { runs: Rc::new(Runs::new(pages)?) })
    }

    /// The table of the arena's runs (ranges of pages), which the devices share with the arena.
    pub(crate) fn runs(&self) -> Rc<Runs> {
        Rc::clone(&self.runs)
    }

    /// Makes the ArrayBuffer. Call it once: V8 allows one buffer per address.
    #[napi(catch_unwind)]
    pub fn create_buffer<'env>(&self, env: &'env Env) -> Result<Unknown<'env>> {
        let (base, bytes) = self.runs.extent();
        let owner = Rc::into_raw(Rc::clone(self.runs.memory()));
        let mut value = std::ptr::null_mut();
        // SAFETY: `owner` keeps the memory until V8 collects the buffer and calls `release_memory`.
        // Every byte stays accessible until then.
        let status = unsafe {
            sys::napi_create_external_arraybuffer(
                env.raw(),
                base.as_ptr(),
                bytes,
                Some(release_memory),
                owner.cast_mut().cast(),
                &mut value,
            )
        };
        if status != sys::Status::napi_ok {
            // SAFETY: without a buffer the finalizer never runs, so the pointer made above is still
            // owned here.
            drop(unsafe { Rc::from_raw(owner) });
            return Err(failure(
                RUNTIME,
                format!("this JavaScript runtime has no external ArrayBuffer (status {status})"),
            ));
        }
        let (mut data, mut length) = (std::ptr::null_mut(), 0);
        // SAFETY: `value` is the array buffer made above.
        unsafe { sys::napi_get_arraybuffer_info(env.raw(), value, &mut data, &mut length) };
        if data != base.as_ptr() || length != bytes {
            return Err(failure(
                RUNTIME,
                "this JavaScript runtime copies external memory instead of using it",
            ));
        }
        // SAFETY: `value` is a live value of this environment and of the current scope.
        Ok(unsafe { Unknown::from_raw_unchecked(env.raw(), value) })
    }

    /// Allocates anonymous, zeroed pages of this domain; returns their arena offset.
    #[napi(catch_unwind)]
    pub fn allocate(&self, pages: u32) -> Result<u32> {
        Ok(self.runs.commit(self.runs.take(pages)?, None))
    }

    /// Ends the run of pages that begins at `offset`, after its last pin. Does nothing after
    /// `close_all`.
    #[napi(catch_unwind)]
    pub fn close(&self, offset: u32) -> Result<()> {
        self.runs.close(offset)
    }

    /// Ends every run of pages, each after its last pin. Later allocations and mappings fail.
    #[napi(catch_unwind)]
    pub fn close_all(&self) -> Result<()> {
        self.runs.close_all()
    }

    /// Registers what the kernel does when the run at `offset` ends for any reason, a crash
    /// included: set a byte to 0, notify a port, or both.
    #[napi(catch_unwind)]
    pub fn notify_on_unmap(
        &self,
        offset: u32,
        clear_byte: Option<u32>,
        port: Option<u32>,
    ) -> Result<()> {
        self.runs.notify_on_unmap(offset, clear_byte, port)
    }
}

/// Finalizer of the ArrayBuffer: drops its reference to the memory.
unsafe extern "C" fn release_memory(_: sys::napi_env, _: *mut c_void, owner: *mut c_void) {
    // SAFETY: the pointer comes from `create_buffer`, and V8 passes it once.
    drop(unsafe { Rc::from_raw(owner.cast::<Memory>()) });
}
