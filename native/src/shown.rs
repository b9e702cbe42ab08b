//! Memory of the addon that JavaScript sees as an ArrayBuffer.

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::ffi::c_void;
use std::ptr::NonNull;
use std::sync::Arc;

use napi::bindgen_prelude::{Env, Unknown};
use napi::sys;

use crate::errors::{RUNTIME, Result, failure};

/// Memory that can become an ArrayBuffer.
pub trait Shown {
    /// Address of the first byte, and the length. The memory is accessible for as long as `self`
    /// exists.
    fn extent(&self) -> (NonNull<u8>, usize);
}

/// Zeroed memory, freed by its last owner. One owner is the ArrayBuffer, which any thread may
/// collect.
pub struct Memory {
    base: NonNull<u8>,
    layout: Layout,
}

impl Memory {
    /// Allocates `size` bytes, which must not be 0.
    pub fn new(size: usize) -> Result<Self> {
        let lacking = || failure("ENOMEM", "no memory for a table");
        let layout = Layout::from_size_align(size, align_of::<f64>()).map_err(|_| lacking())?;
        // SAFETY: the caller vouches that the size isn't 0.
        let base = NonNull::new(unsafe { alloc_zeroed(layout) }).ok_or_else(lacking)?;
        Ok(Self { base, layout })
    }

    /// Address of the first byte.
    pub fn base(&self) -> NonNull<u8> {
        self.base
    }

    /// Address of the first byte, and the length.
    pub fn extent(&self) -> (NonNull<u8>, usize) {
        (self.base, self.layout.size())
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: the memory was allocated with this layout, and every view of it is gone.
        unsafe { dealloc(self.base.as_ptr(), self.layout) };
    }
}

/// Makes an ArrayBuffer over memory that `owner` keeps.
pub fn show<'env, Owner: Shown>(env: &'env Env, owner: &Arc<Owner>) -> Result<Unknown<'env>> {
    let (base, bytes) = owner.extent();
    let owner = Arc::into_raw(Arc::clone(owner));
    let mut value = std::ptr::null_mut();
    // SAFETY: `owner` keeps the memory until V8 collects the buffer and calls `release`.
    let status = unsafe {
        sys::napi_create_external_arraybuffer(
            env.raw(),
            base.as_ptr().cast(),
            bytes,
            Some(release::<Owner>),
            owner.cast_mut().cast(),
            &mut value,
        )
    };
    if status != sys::Status::napi_ok {
        // SAFETY: without a buffer the finalizer never runs, so the pointer made above is still
        // owned here.
        drop(unsafe { Arc::from_raw(owner) });
        return Err(failure(
            RUNTIME,
            format!("this JavaScript runtime has no external ArrayBuffer (status {status})"),
        ));
    }
    // SAFETY: `value` is a live value of this environment and of the current scope.
    Ok(unsafe { Unknown::from_raw_unchecked(env.raw(), value) })
}

/// Finalizer of the ArrayBuffer: drops its reference to the memory.
unsafe extern "C" fn release<Owner>(_: sys::napi_env, _: *mut c_void, owner: *mut c_void) {
    // SAFETY: the pointer comes from `show`, and V8 passes it once.
    drop(unsafe { Arc::from_raw(owner.cast::<Owner>()) });
}
