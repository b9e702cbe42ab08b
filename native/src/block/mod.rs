//! `BlockEngine`, the object that JavaScript sees: jobs between disk images and memory, of which
//! one call submits many.
//!
//! The engine first performs the part of a job that needs no disk: reads from the page cache, and
//! copies from and to memory images. The rest runs asynchronously, by io_uring or by threads, which
//! wake the event loop by an eventfd.

mod descriptor;
mod engine;
mod event;
mod file;
mod job;
mod mapping;
mod memory_image;
mod pool;
mod table;
mod uring;

use std::cell::RefCell;
use std::os::fd::AsRawFd;
use std::rc::Rc;
use std::sync::Arc;

use napi::bindgen_prelude::{Env, Unknown};
use napi_derive::napi;
use rustix::io::Errno;

use self::engine::Engine;
use self::event::Event;
use self::memory_image::MemoryImage;
use self::table::{DoneList, TableLayout};
use self::uring::Uring;
use crate::bytes::Bytes;
use crate::errors::{Result, os, out_of_range};
use crate::function;
use crate::poll::{Callback, Poll};
use crate::shown::show;

/// Most jobs and vectors of a table. Job numbers have 16 bits, of which half are used; each job may
/// have `engine::VECTORS` vectors.
const JOBS: u32 = 32 << 10;
const VECTORS: u32 = JOBS << 10;
/// Most jobs reported per wake, and most jobs in flight in io_uring.
const DONE: u32 = 4096;

/// The engine's state as owned by its poll. When the poll ends, at the latest with the environment,
/// this waits for all jobs in flight: JavaScript's memory is freed next.
struct Settled(Rc<State>);

impl Drop for Settled {
    fn drop(&mut self) {
        if let Some(engine) = self.0.take() {
            engine.settle();
        }
    }
}

/// The engine; `None` once it is settled.
type State = RefCell<Option<Engine>>;

/// The JavaScript class `BlockEngine`; its contract is in index.d.ts.
#[napi]
pub struct BlockEngine {
    state: Rc<State>,
    kind: &'static str,
    aligned: bool,
    done: Arc<DoneList>,
    poll: Poll,
}

#[napi]
impl BlockEngine {
    /// Makes an engine. Without `kind`, it uses io_uring if the system allows that.
    #[napi(constructor, catch_unwind)]
    pub fn new(env: Env, memory: Unknown, on_done: Callback, kind: Option<String>) -> Result<Self> {
        let memory = Bytes::new(&env, memory)?;
        let aligned = memory.page_aligned();
        let event = Arc::new(Event::new()?);
        let uring = match (kind.as_deref(), Uring::open(DONE, event.as_raw_fd())) {
            (None, uring) => uring.ok(),
            (Some("threads"), _) => None,
            (Some("io_uring"), uring) => Some(uring.map_err(|error| {
                os("io_uring_setup")(Errno::from_io_error(&error).unwrap_or(Errno::IO))
            })?),
            (Some(kind), _) => {
                return Err(out_of_range(format!(
                    "\"kind\" expected 'io_uring' or 'threads', got '{kind}'"
                )));
            }
        };
        let done = Arc::new(DoneList::new(DONE)?);
        let fd = event.as_raw_fd();
        let kind = if uring.is_some() { "io_uring" } else { "threads" };
        let state =
            Rc::new(RefCell::new(Some(Engine::new(memory, Arc::clone(&done), event, uring))));
        let settled = Settled(Rc::clone(&state));
        let poll =
            Poll::open(&env, fd, on_done, Box::new(move |poll, _| on_ready(&settled.0, poll)))?;
        Ok(Self { state, kind, aligned, done, poll })
    }

    fn with<T>(&self, f: impl FnOnce(&mut Engine) -> Result<T>) -> Result<T> {
        self.state.borrow_mut().as_mut().map_or_else(|| Err(engine::closed()), f)
    }

    /// What runs the reads that have to wait: `'io_uring'` or `'threads'`.
    #[napi(getter)]
    pub fn kind(&self) -> &'static str {
        self.kind
    }

    /// Whether the engine's memory begins at a page boundary.
    #[napi(getter)]
    pub fn aligned(&self) -> bool {
        self.aligned
    }

    /// Makes the ArrayBuffer of the done list. Call this once: V8 allows one buffer per address.
    #[napi(catch_unwind)]
    pub fn create_done<'env>(&self, env: &'env Env) -> Result<Unknown<'env>> {
        show(env, &self.done)
    }

    /// Adds a table; returns its number.
    #[napi(catch_unwind)]
    pub fn add_table(&self, jobs: u32, vectors: u32) -> Result<u32> {
        if jobs == 0 || jobs > JOBS || vectors > VECTORS {
            return Err(out_of_range(format!(
                "a table has 1..{JOBS} jobs and 0..{VECTORS} vectors, got {jobs} and {vectors}"
            )));
        }
        self.with(|engine| engine.add_table(jobs, vectors))
    }

    /// Makes the ArrayBuffer of a table. Call this once for each table.
    #[napi(catch_unwind)]
    pub fn create_table<'env>(&self, env: &'env Env, table: u32) -> Result<Unknown<'env>> {
        show(env, &self.with(|engine| engine.table(table))?)
    }

    /// Byte offsets of a table's columns in its ArrayBuffer.
    #[napi(catch_unwind)]
    pub fn table_layout(&self, table: u32) -> Result<TableLayout> {
        self.with(|engine| Ok(engine.table(table)?.layout()))
    }

    /// Removes a table that has no job in flight. Does nothing after `close`.
    #[napi(catch_unwind)]
    pub fn remove_table(&self, table: u32) -> Result<()> {
        self.state.borrow_mut().as_mut().map_or(Ok(()), |engine| engine.remove_table(table))
    }

    /// Makes the JavaScript function that submits jobs.
    #[napi(catch_unwind)]
    pub fn create_submit<'env>(&self, env: &'env Env) -> Result<Unknown<'env>> {
        let (state, poll) = (Rc::clone(&self.state), self.poll.clone());
        function::create(env, c"submit", move |[table, count]: [u32; 2]| {
            submit(&state, &poll, table, count)
        })
    }

    /// Starts the deferred jobs. Does nothing after `close`.
    #[napi(catch_unwind)]
    pub fn proceed(&self) {
        if let Some(engine) = self.state.borrow_mut().as_mut() {
            engine.proceed();
        }
    }

    /// Opens a file for jobs; returns its number.
    #[napi(catch_unwind)]
    pub fn open(&self, fd: i32) -> Result<u32> {
        self.with(|engine| engine.open(fd))
    }

    /// Opens a memory image for jobs; returns its number.
    #[napi(catch_unwind)]
    pub fn open_memory(&self, image: &MemoryImage) -> Result<u32> {
        let mapping = image.mapping()?;
        self.with(|engine| engine.open_memory(mapping))
    }

    /// Frees a file's number; its jobs in flight still complete. Does nothing after `close`.
    #[napi(catch_unwind)]
    pub fn release(&self, file: u32) -> Result<()> {
        self.state.borrow_mut().as_mut().map_or(Ok(()), |engine| engine.release(file))
    }

    /// Refuses new jobs from now on. Idempotent.
    #[napi(catch_unwind)]
    pub fn close(&self) {
        if let Some(engine) = self.state.borrow_mut().as_mut() {
            engine.close();
        }
        close_if_finished(&self.state, &self.poll);
    }
}

/// Starts the first `count` jobs of a table's list; returns how many completed within the call.
fn submit(state: &State, poll: &Poll, table: u32, count: u32) -> Result<u32> {
    let mut state = state.borrow_mut();
    let engine = state.as_mut().ok_or_else(engine::closed)?;
    let idle = engine.in_flight() == 0;
    let done = engine.submit(table, count)?;
    if idle && engine.in_flight() > 0 {
        poll.keep_alive(true);
    }
    Ok(done)
}

fn on_ready(state: &State, poll: &Poll) {
    let done = reap(state, poll);
    if done > 0 {
        poll.call(done as i32);
    }
    close_if_finished(state, poll);
}

/// Puts completed jobs on the done list; returns how many.
fn reap(state: &State, poll: &Poll) -> u32 {
    let (done, idle) = state
        .borrow_mut()
        .as_mut()
        .map_or((0, false), |engine| (engine.reap(), engine.in_flight() == 0));
    if idle {
        poll.keep_alive(false);
    }
    done
}

fn close_if_finished(state: &State, poll: &Poll) {
    let finished = state.borrow().as_ref().is_some_and(Engine::finished);
    if finished {
        poll.close();
    }
}
