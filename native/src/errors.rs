//! Failures as JavaScript sees them: an `Error` with a `code`, whose text begins with the
//! operation.

use rustix::io::Errno;

use crate::uv::Uv;

/// `code` of an argument outside its range: nothing was done.
pub const OUT_OF_RANGE: &str = "ERR_OUT_OF_RANGE";
/// `code` when an arena has no free run of pages that is long enough.
pub const ARENA_FULL: &str = "ERR_ARENA_FULL";
/// `code` of a use of an object after its `close`.
pub const CLOSED: &str = "ERR_CLOSED";
/// `code` when the JavaScript runtime lacks something this addon needs.
pub const RUNTIME: &str = "ERR_RUNTIME";

/// A JavaScript error whose `code` is one of the constants above or an errno name such as `EINVAL`.
pub type Failure = napi::Error<String>;
/// Return type of every fallible function of this crate.
pub type Result<T> = std::result::Result<T, Failure>;

/// Makes an error with the given code.
pub fn failure(code: &str, message: impl Into<String>) -> Failure {
    Failure::new(code.to_owned(), message.into())
}

/// Makes the error for an argument outside its range.
pub fn out_of_range(message: impl Into<String>) -> Failure {
    failure(OUT_OF_RANGE, message)
}

/// Makes the error of a failed system call. `operation` names the call, as in `IOCTL_EVTCHN_NOTIFY
/// of port 7`.
pub fn os(operation: impl AsRef<str>) -> impl FnOnce(Errno) -> Failure {
    move |errno| {
        let name = errno_name(errno);
        let message = format!("{}: {name}", operation.as_ref());
        Failure::new(name, message)
    }
}

/// Name of an errno, such as `EINVAL`, from libuv's table, which lacks the one for a device whose
/// state has ended.
pub fn errno_name(errno: Errno) -> String {
    if errno == Errno::BADFD {
        return "EBADFD".to_owned();
    }
    Uv::get()
        .and_then(|uv| uv.error_name(errno))
        .unwrap_or_else(|| format!("errno {}", errno.raw_os_error()))
}
