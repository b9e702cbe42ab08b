//! JavaScript memory that data is moved to and from.

use std::ffi::c_void;
use std::ptr::null_mut;

use napi::bindgen_prelude::{Env, Unknown};
use napi::{JsValue, sys};

use crate::errors::{Result, failure, out_of_range};
use crate::memory::PAGE_SHIFT;

/// The memory behind a `Uint8Array`, valid until JavaScript runs again.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// Address of the first byte.
    pub base: *mut c_void,
    /// Number of bytes.
    pub length: usize,
}

/// The memory behind a `Uint8Array`, kept alive for as long as this value exists. Drop it on the
/// environment's thread.
pub struct Bytes {
    env: sys::napi_env,
    reference: sys::napi_ref,
    span: Span,
}

impl Bytes {
    /// Refers to an array, which may view an ArrayBuffer or a SharedArrayBuffer.
    pub fn new(env: &Env, array: Unknown) -> Result<Self> {
        let env = env.raw();
        let span = Span::of(env, array.raw())
            .ok_or_else(|| failure("InvalidArg", "\"memory\" expected a Uint8Array"))?;
        let mut reference = null_mut();
        // SAFETY: `array` is a live value of this environment, on its thread.
        let status = unsafe { sys::napi_create_reference(env, array.raw(), 1, &mut reference) };
        if status != sys::Status::napi_ok {
            return Err(failure(
                crate::errors::RUNTIME,
                format!("napi_create_reference: status {status}"),
            ));
        }
        Ok(Self { env, reference, span })
    }

    /// Fails if JavaScript has detached or resized the buffer, whose memory has then moved or is
    /// freed. Call this only from within a JavaScript call, because it uses that call's handle
    /// scope.
    pub fn check(&self) -> Result<()> {
        let mut array = null_mut();
        // SAFETY: this is the environment's thread. The reference lives as long as `self`, and the
        // value as long as the caller's scope.
        let now = unsafe {
            sys::napi_get_reference_value(self.env, self.reference, &mut array);
            Span::of(self.env, array)
        };
        if now == Some(self.span) {
            Ok(())
        } else {
            Err(out_of_range("the memory of the block engine was detached or resized"))
        }
    }

    /// Whether the memory begins at a page boundary, as O_DIRECT needs.
    pub fn page_aligned(&self) -> bool {
        self.span.base.addr().is_multiple_of(1 << PAGE_SHIFT)
    }

    /// As `Span::at`.
    pub fn at(&self, offset: u32, length: u32) -> Option<*mut c_void> {
        self.span.at(offset, length)
    }
}

impl Drop for Bytes {
    fn drop(&mut self) {
        // SAFETY: deleted once, on the environment's thread, while the environment lives.
        unsafe { sys::napi_delete_reference(self.env, self.reference) };
    }
}

impl Span {
    /// Finds the memory of a `Uint8Array`; `None` if `array` is anything else.
    pub fn of(env: sys::napi_env, array: sys::napi_value) -> Option<Self> {
        let (mut kind, mut length, mut data, mut buffer, mut offset) =
            (0, 0, null_mut(), null_mut(), 0);
        // SAFETY: `array` is a live value of this environment. Node-API refuses anything but a
        // typed array.
        let status = unsafe {
            sys::napi_get_typedarray_info(
                env,
                array,
                &mut kind,
                &mut length,
                &mut data,
                &mut buffer,
                &mut offset,
            )
        };
        (status == sys::Status::napi_ok && kind == sys::TypedarrayType::uint8_array)
            .then_some(Self { base: data, length })
    }

    /// The address of `length` bytes at `offset`; `None` if they aren't inside the array. Use it
    /// only for system calls and raw copies: a guest may change the bytes at any time.
    pub fn at(&self, offset: u32, length: u32) -> Option<*mut c_void> {
        let (offset, length) = (offset as usize, length as usize);
        let inside = offset <= self.length && length <= self.length - offset;
        inside.then(|| self.base.wrapping_byte_add(offset))
    }
}
