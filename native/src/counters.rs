//! What this process holds open, over all environments. Relaxed atomics on paths that end in a
//! system call: cheap enough for both builds, so that tests of either can assert zero.

use std::sync::atomic::{AtomicI32, Ordering};

use napi_derive::napi;

static FDS: Count = Count::new();
static MAPPINGS: Count = Count::new();
static SHARES: Count = Count::new();
static PORTS: Count = Count::new();
static POLLS: Count = Count::new();
static ARENAS: Count = Count::new();
static JOBS: Count = Count::new();
static IMAGES: Count = Count::new();

/// A number of live things.
pub struct Count(AtomicI32);

impl Count {
    const fn new() -> Self {
        Self(AtomicI32::new(0))
    }

    fn get(&self) -> i32 {
        self.0.load(Ordering::Relaxed)
    }
}

/// One live thing, counted for as long as this value exists.
pub struct Token(&'static Count);

impl Token {
    fn new(count: &'static Count) -> Self {
        count.0.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }

    /// An open device, or a file of a block engine.
    pub fn fd() -> Self {
        Self::new(&FDS)
    }

    /// A grant mapping, of any number of pages.
    pub fn mapping() -> Self {
        Self::new(&MAPPINGS)
    }

    /// Grant mappings, this one among them.
    pub fn mappings() -> u32 {
        MAPPINGS.get().unsigned_abs()
    }

    /// A share, of any number of pages.
    pub fn share() -> Self {
        Self::new(&SHARES)
    }

    /// A bound event-channel port.
    pub fn port() -> Self {
        Self::new(&PORTS)
    }

    /// A libuv poll handle.
    pub fn poll() -> Self {
        Self::new(&POLLS)
    }

    /// An arena's memory.
    pub fn arena() -> Self {
        Self::new(&ARENAS)
    }

    /// A job of a block engine that waits for a disk.
    pub fn job() -> Self {
        Self::new(&JOBS)
    }

    /// The memory of a disk.
    pub fn image() -> Self {
        Self::new(&IMAGES)
    }
}

impl Drop for Token {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Live things of the whole process.
#[napi(object)]
pub struct Counters {
    /// Open devices, and files of block engines.
    pub fds: i32,
    /// Grant mappings.
    pub mappings: i32,
    /// Shares.
    pub shares: i32,
    /// Bound event-channel ports.
    pub ports: i32,
    /// libuv handles that watch a device.
    pub polls: i32,
    /// Arenas whose memory is still reserved; it goes when their ArrayBuffer is collected.
    pub arenas: i32,
    /// Jobs of block engines that wait for a disk.
    pub jobs: i32,
    /// Memory images; one goes when nobody has it open and no block engine uses it.
    pub images: i32,
}

/// Counts what the process holds open.
#[napi(catch_unwind)]
pub fn counters() -> Counters {
    Counters {
        fds: FDS.get(),
        mappings: MAPPINGS.get(),
        shares: SHARES.get(),
        ports: PORTS.get(),
        polls: POLLS.get(),
        arenas: ARENAS.get(),
        jobs: JOBS.get(),
        images: IMAGES.get(),
    }
}
