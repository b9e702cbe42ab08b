//! `@xenkit/native`: the part of xenkit that uses Linux's Xen drivers and can't be written in
//! JavaScript. It has an arena of memory into which granted pages are mapped, grant copies, event
//! channels and the xenbus device. It also has an engine that moves data between disk images and
//! memory, and TAP devices. It knows no device protocol: policy, validation of peers and dispatch
//! are written in JavaScript.
//!
//! Every exported function catches panics and turns them into a JavaScript exception. Each object
//! belongs to one environment (the main thread or a worker) and ends with it; see `poll`.

// In tests no code registers the exported functions, so they look unused.
#![cfg_attr(test, allow(dead_code))]

mod arena;
mod block;
mod bytes;
mod columns;
mod counters;
mod device;
mod discard;
mod errors;
mod evtchn;
mod function;
mod gntalloc;
mod gntdev;
mod locks;
mod map_limit;
mod memory;
mod poll;
mod ranges;
mod runs;
mod shown;
mod tap;
mod uapi;
mod uv;
mod xenbus;

/// Version of the interface that index.d.ts declares. Raise the number here and in index.js
/// whenever that interface changes: index.js refuses an addon with another version.
#[napi_derive::napi]
pub const ABI: u32 = 2;
