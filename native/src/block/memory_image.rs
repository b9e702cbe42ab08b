//! A disk image in memory, as JavaScript sees it: each thread has its own object over the same
//! mapping.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use libc::iovec;
use napi::bindgen_prelude::{AsyncTask, Env, Unknown};
use napi::{JsValue, Task};
use napi_derive::napi;

use super::engine::integer;
use super::job::Operation;
use super::mapping::Mapping;
use crate::bytes::Span;
use crate::errors::{CLOSED, Result, failure, os, out_of_range};

/// The memory images of this process by id, so that other threads can open them.
struct Shared {
    next: i64,
    mappings: BTreeMap<i64, Weak<Mapping>>,
}

static SHARED: Mutex<Shared> = Mutex::new(Shared { next: 0, mappings: BTreeMap::new() });

/// The JavaScript class `MemoryImage`; its contract is in index.d.ts.
#[napi]
pub struct MemoryImage {
    id: i64,
    /// The image's memory; `None` once this object is closed.
    mapping: RefCell<Option<Arc<Mapping>>>,
}

#[napi]
impl MemoryImage {
    /// Makes an image of `bytes` zeros.
    #[napi(constructor, catch_unwind)]
    pub fn new(bytes: f64) -> Result<Self> {
        let mapping = Arc::new(
            Mapping::new(length(bytes)?).map_err(os(format!("a memory image of {bytes} bytes")))?,
        );
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        shared.mappings.retain(|_, mapping| mapping.strong_count() > 0);
        let id = shared.next;
        shared.next += 1;
        shared.mappings.insert(id, Arc::downgrade(&mapping));
        Ok(Self { id, mapping: RefCell::new(Some(mapping)) })
    }

    /// Opens an image that this or another thread has open.
    #[napi(factory, catch_unwind)]
    pub fn open(id: i64) -> Result<Self> {
        let mapping = SHARED
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .mappings
            .get(&id)
            .and_then(Weak::upgrade);
        if mapping.is_none() {
            return Err(out_of_range(format!(
                "no memory image {id} is open, by this copy of the addon"
            )));
        }
        Ok(Self { id, mapping: RefCell::new(mapping) })
    }

    /// Identifies the image for `open`, in any thread of this process.
    #[napi(getter)]
    pub fn id(&self) -> i64 {
        self.id
    }

    /// The image's memory, for the block engine.
    pub(super) fn mapping(&self) -> Result<Arc<Mapping>> {
        self.mapping.borrow().clone().ok_or_else(|| failure(CLOSED, "the memory image is closed"))
    }

    fn transfer(
        &self,
        env: Env,
        operation: Operation,
        position: f64,
        buffers: &[Unknown],
    ) -> Result<i64> {
        let mapping = self.mapping()?;
        let position = integer(position).ok_or_else(|| {
            out_of_range(format!("\"position\" expected an integer 0..2^53-1, got {position}"))
        })?;
        let vectors: Option<Vec<iovec>> = buffers
            .iter()
            .map(|buffer| {
                Span::of(env.raw(), buffer.raw())
                    .map(|span| iovec { iov_base: span.base, iov_len: span.length })
            })
            .collect();
        let vectors =
            vectors.ok_or_else(|| failure("InvalidArg", "\"buffers\" expected Uint8Arrays"))?;
        // SAFETY: the arrays' addresses were read in this call, and no JavaScript has run since.
        Ok(unsafe { mapping.transfer(operation, position, &vectors) } as i64)
    }

    /// Copies from the image to `into`; returns the number of bytes.
    #[napi(catch_unwind)]
    pub fn read(&self, env: Env, position: f64, into: Vec<Unknown>) -> Result<i64> {
        self.transfer(env, Operation::Read, position, &into)
    }

    /// Copies from `from` to the image; returns the number of bytes.
    #[napi(catch_unwind)]
    pub fn write(&self, env: Env, position: f64, from: Vec<Unknown>) -> Result<i64> {
        self.transfer(env, Operation::Write, position, &from)
    }

    /// Makes a range of the image read as zeros, asynchronously.
    #[napi(catch_unwind)]
    pub fn discard(&self, position: f64, length: f64) -> Result<AsyncTask<Zero>> {
        let (Some(position), Some(length)) = (integer(position), integer(length)) else {
            return Err(out_of_range(format!(
                "discard of {length} bytes at {position}: expected integers 0..2^53-1"
            )));
        };
        Ok(AsyncTask::new(Zero { mapping: self.mapping()?, position, length }))
    }

    /// Truncates the image, or extends it with zeros, for every thread.
    #[napi(catch_unwind)]
    pub fn resize(&self, bytes: f64) -> Result<()> {
        self.mapping()?
            .resize(length(bytes)?)
            .map_err(os(format!("resize of a memory image to {bytes} bytes")))
    }

    /// Closes this object. The memory is freed once no object or job uses it. Idempotent.
    #[napi(catch_unwind)]
    pub fn close(&self) {
        self.mapping.take();
    }
}

fn length(bytes: f64) -> Result<u64> {
    integer(bytes).filter(|&bytes| bytes > 0).ok_or_else(|| {
        out_of_range(format!("\"bytes\" expected an integer 1..2^53-1, got {bytes}"))
    })
}

/// The task that zeroes a range. It runs on libuv's thread pool, because freeing a gigabyte takes
/// tens of milliseconds.
pub struct Zero {
    mapping: Arc<Mapping>,
    position: u64,
    length: u64,
}

impl Task for Zero {
    type Output = ();
    type JsValue = ();

    fn compute(&mut self) -> napi::Result<()> {
        self.mapping.zero(self.position, self.length);
        Ok(())
    }

    fn resolve(&mut self, _: Env, (): ()) -> napi::Result<()> {
        Ok(())
    }
}
