//! JavaScript functions that take numbers or memory, return a number, and carry their own state. A
//! class method would find its state by unwrapping `this`, which takes several times as long as the
//! rest of such a call.

use std::ffi::{CStr, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::null_mut;

use napi::bindgen_prelude::{Env, Unknown};
use napi::{JsError, sys};

use crate::bytes::Span;
use crate::errors::{RUNTIME, Result, failure};

/// Most arguments of a function.
const ARGUMENTS: usize = 4;

/// Arguments of such a function.
pub trait Arguments: Sized {
    /// What a call with other arguments is told.
    const EXPECTED: &str;

    /// Converts the values of a call; missing ones are `undefined`.
    fn of(env: sys::napi_env, values: &[sys::napi_value; ARGUMENTS]) -> Option<Self>;
}

impl<const N: usize> Arguments for [u32; N] {
    const EXPECTED: &str = "expected a number";

    fn of(env: sys::napi_env, values: &[sys::napi_value; ARGUMENTS]) -> Option<Self> {
        let mut numbers = [0; N];
        values
            .iter()
            .zip(&mut numbers)
            .all(|(&value, number)| {
                // SAFETY: `value` is a live value of this environment.
                (unsafe { sys::napi_get_value_uint32(env, value, number) }) == sys::Status::napi_ok
            })
            .then_some(numbers)
    }
}

impl Arguments for (Span, u32) {
    const EXPECTED: &str = "expected a Uint8Array and a number";

    fn of(env: sys::napi_env, values: &[sys::napi_value; ARGUMENTS]) -> Option<Self> {
        let [memory, rest @ ..] = values;
        let mut number = 0;
        let [second, ..] = rest;
        // SAFETY: `second` is a live value of this environment.
        let status = unsafe { sys::napi_get_value_uint32(env, *second, &mut number) };
        (status == sys::Status::napi_ok).then_some((Span::of(env, *memory)?, number))
    }
}

/// Makes a JavaScript function that runs `call`. `call` is dropped when JavaScript collects the
/// function, at the latest when the environment ends.
pub fn create<'env, Args: Arguments, Call: Fn(Args) -> Result<u32> + 'static>(
    env: &'env Env,
    name: &CStr,
    call: Call,
) -> Result<Unknown<'env>> {
    let (env, mut value) = (env.raw(), null_mut());
    let owner = Box::into_raw(Box::new(call)).cast::<c_void>();
    // SAFETY: the function and its finalizer get the box made above. The finalizer takes the box
    // back.
    let status = unsafe {
        let created = sys::napi_create_function(
            env,
            name.as_ptr(),
            name.count_bytes() as isize,
            Some(called::<Args, Call>),
            owner,
            &mut value,
        );
        if created == sys::Status::napi_ok {
            sys::napi_add_finalizer(
                env,
                value,
                owner,
                Some(release::<Call>),
                null_mut(),
                null_mut(),
            )
        } else {
            created
        }
    };
    if status != sys::Status::napi_ok {
        // SAFETY: the function was never called and never will be: JavaScript hasn't seen it.
        drop(unsafe { Box::from_raw(owner.cast::<Call>()) });
        return Err(failure(RUNTIME, format!("napi_create_function: status {status}")));
    }
    // SAFETY: `value` is a live value of this environment and of the current scope.
    Ok(unsafe { Unknown::from_raw_unchecked(env, value) })
}

unsafe extern "C" fn called<Args: Arguments, Call: Fn(Args) -> Result<u32>>(
    env: sys::napi_env,
    info: sys::napi_callback_info,
) -> sys::napi_value {
    let (mut given, mut values, mut data) = (ARGUMENTS, [null_mut(); ARGUMENTS], null_mut());
    // SAFETY: JavaScript calls this on the environment's thread. Node-API fills all of `values`,
    // with `undefined` for missing ones.
    unsafe {
        sys::napi_get_cb_info(env, info, &mut given, values.as_mut_ptr(), null_mut(), &mut data);
    }
    let result = if let Some(arguments) = Args::of(env, &values) {
        // SAFETY: `data` is the box that `create` made, and the box lives as long as the function.
        let call = unsafe { &*data.cast::<Call>() };
        catch_unwind(AssertUnwindSafe(|| call(arguments)))
            .unwrap_or_else(|_| Err(failure("GenericFailure", "a panic in the addon")))
    } else {
        Err(failure("InvalidArg", Args::EXPECTED))
    };
    let mut value = null_mut();
    match result {
        // SAFETY: the environment is live, and this is its thread.
        Ok(number) => unsafe { sys::napi_create_uint32(env, number, &mut value) },
        Err(failure) => {
            // SAFETY: the environment is live, and this is its thread.
            unsafe { JsError::from(failure).throw_into(env) };
            sys::Status::napi_ok
        }
    };
    value
}

unsafe extern "C" fn release<Call>(_: sys::napi_env, owner: *mut c_void, _: *mut c_void) {
    // SAFETY: the pointer comes from `create`, and Node-API passes it once.
    drop(unsafe { Box::from_raw(owner.cast::<Call>()) });
}
