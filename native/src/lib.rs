//! `@xenkit/native`: what user space needs from Linux's Xen drivers and can't do in JavaScript. One
//! arena of memory into which granted pages are mapped, grant copies, event channels, the xenbus
//! device, and an engine that moves data between disk images and memory. It knows no protocol:
//! policy, validation of peers and dispatch are JavaScript's.
//!
//! Every exported function catches panics and turns them into a JavaScript exception. All objects
//! belong to one environment (the main thread or a worker) and end with it; see `poll`.

// Under test nothing registers the exported functions.
#![cfg_attr(test, allow(dead_code))]

mod arena;
mod block;
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
mod uapi;
mod uv;
mod xenbus;
