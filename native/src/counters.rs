//! Counts the resources that this process holds open, over all environments. The counters are
//! relaxed atomics, on paths that end in a system call. That is cheap enough for release builds
//! too, so tests of debug and release builds can assert zero.

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

/// Number of live resources of one kind.
pub struct Count(AtomicI32);

impl Count {
    const fn new() -> Self {
        Self(AtomicI32::new(0))
    }

    fn get(&self) -> i32 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Counts one resource for as long as this value exists.
pub struct Token(&'static Count);

impl Token {
    fn new(count: &'static Count) -> Self {
        count.0.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }

    /// Counts an open device, or a file of a block engine.
    pub fn fd() -> Self {
        Self::new(&FDS)
    }

    /// Counts a grant mapping of any number of pages.
    pub fn mapping() -> Self {
        Self::new(&MAPPINGS)
    }

    /// Number of grant mappings, including the caller's token.
    pub fn mappings() -> u32 {
        MAPPINGS.get().unsigned_abs()
    }

    /// Counts a share (pages granted to another domain) of any number of pages.
    pub fn share() -> Self {
        Self::new(&SHARES)
    }

    /// Counts a bound event-channel port.
    pub fn port() -> Self {
        Self::new(&PORTS)
    }

    /// Counts a libuv poll handle.
    pub fn poll() -> Self {
        Self::new(&POLLS)
    }

    /// Counts an arena's memory.
    pub fn arena() -> Self {
        Self::new(&ARENAS)
    }

    /// Counts a block engine's job that waits for a disk.
    pub fn job() -> Self {
        Self::new(&JOBS)
    }

    /// Counts the memory of a memory image.
    pub fn image() -> Self {
        Self::new(&IMAGES)
    }
}

impl Drop for Token {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Numbers of resources that the whole process holds.
#[napi(object)]
pub struct Counters {
    /// Open devices, and files of block engines.
    pub fds: i32,
    /// Grant mappings.
    pub mappings: i32,
    /// Shares: runs of pages granted to other domains.
    pub shares: i32,
    /// Bound event-channel ports.
    pub ports: i32,
    /// libuv handles that poll a device.
    pub polls: i32,
    /// Arenas whose memory is still reserved: until their ArrayBuffer is collected.
    pub arenas: i32,
    /// Jobs of block engines that wait for a disk.
    pub jobs: i32,
    /// Memory images: freed when nobody has them open and no block engine uses them.
    pub images: i32,
}

/// Reads all counters.
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
