//! A disk in memory: the object that JavaScript sees, in each thread one over the same mapping.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use libc::iovec;
use napi::bindgen_prelude::{AsyncTask, Env, Unknown};
use napi::{JsValue, Task};
use napi_derive::napi;

use super::bytes::extent;
use super::engine::integer;
use super::job::Operation;
use super::mapping::Mapping;
use crate::errors::{CLOSED, Result, failure, os, out_of_range};

/// How threads find each other's mappings.
struct Shared {
    next: i64,
    mappings: BTreeMap<i64, Weak<Mapping>>,
}

static SHARED: Mutex<Shared> = Mutex::new(Shared { next: 0, mappings: BTreeMap::new() });

/// See index.d.ts.
#[napi]
pub struct MemoryImage {
    id: i64,
    /// `None` once closed.
    mapping: RefCell<Option<Arc<Mapping>>>,
}

#[napi]
impl MemoryImage {
    /// Zeros, `bytes` of them.
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

    /// One that somebody has open.
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

    /// Its name for `open`, in any thread of this process.
    #[napi(getter)]
    pub fn id(&self) -> i64 {
        self.id
    }

    /// What the block engine copies from and to.
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
                extent(env.raw(), buffer.raw())
                    .map(|(iov_base, iov_len)| iovec { iov_base, iov_len })
            })
            .collect();
        let vectors =
            vectors.ok_or_else(|| failure("InvalidArg", "\"buffers\" expected Uint8Arrays"))?;
        // SAFETY: where the arrays' bytes are was asked last of all, and no JavaScript has run
        // since.
        Ok(unsafe { mapping.transfer(operation, position, &vectors) } as i64)
    }

    /// Copies to `into`; returns how many bytes.
    #[napi(catch_unwind)]
    pub fn read(&self, env: Env, position: f64, into: Vec<Unknown>) -> Result<i64> {
        self.transfer(env, Operation::Read, position, &into)
    }

    /// Copies from `from`; returns how many bytes.
    #[napi(catch_unwind)]
    pub fn write(&self, env: Env, position: f64, from: Vec<Unknown>) -> Result<i64> {
        self.transfer(env, Operation::Write, position, &from)
    }

    /// Makes a range read as zeros.
    #[napi(catch_unwind)]
    pub fn discard(&self, position: f64, length: f64) -> Result<AsyncTask<Zero>> {
        let (Some(position), Some(length)) = (integer(position), integer(length)) else {
            return Err(out_of_range(format!(
                "discard of {length} bytes at {position}: expected integers 0..2^53-1"
            )));
        };
        Ok(AsyncTask::new(Zero { mapping: self.mapping()?, position, length }))
    }

    /// Cuts it, or lengthens it by zeros, for everybody.
    #[napi(catch_unwind)]
    pub fn resize(&self, bytes: f64) -> Result<()> {
        self.mapping()?
            .resize(length(bytes)?)
            .map_err(os(format!("resize of a memory image to {bytes} bytes")))
    }

    /// Lets go of the memory. Idempotent.
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

/// On libuv's thread pool: to free a gigabyte takes tens of milliseconds.
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
