//! JavaScript functions that take numbers, return a number, and carry their own state. A class
//! method would find its state by unwrapping `this`, which takes several times as long as the rest
//! of such a call.

use std::ffi::{CStr, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::null_mut;

use napi::bindgen_prelude::{Env, Unknown};
use napi::{JsError, sys};

use crate::errors::{RUNTIME, Result, failure};

/// Makes a JavaScript function that runs `call`. `call` is dropped when JavaScript collects the
/// function, at the latest when the environment ends.
pub fn create<'env, const N: usize, Call: Fn([u32; N]) -> Result<u32> + 'static>(
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
            Some(called::<N, Call>),
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

unsafe extern "C" fn called<const N: usize, Call: Fn([u32; N]) -> Result<u32>>(
    env: sys::napi_env,
    info: sys::napi_callback_info,
) -> sys::napi_value {
    let (mut given, mut arguments, mut data, mut numbers) =
        (N, [null_mut(); N], null_mut(), [0; N]);
    // SAFETY: JavaScript calls this on the environment's thread. Node-API fills `arguments` with
    // exactly N values, `undefined` for missing ones.
    let all_numbers = unsafe {
        sys::napi_get_cb_info(env, info, &mut given, arguments.as_mut_ptr(), null_mut(), &mut data);
        arguments.iter().zip(&mut numbers).all(|(&argument, number)| {
            sys::napi_get_value_uint32(env, argument, number) == sys::Status::napi_ok
        })
    };
    let result = if all_numbers {
        // SAFETY: `data` is the box that `create` made, and the box lives as long as the function.
        let call = unsafe { &*data.cast::<Call>() };
        catch_unwind(AssertUnwindSafe(|| call(numbers)))
            .unwrap_or_else(|_| Err(failure("GenericFailure", "a panic in the addon")))
    } else {
        Err(failure("InvalidArg", "expected a number"))
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
