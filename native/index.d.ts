/**
 * `@xenkit/native`: Linux's Xen drivers, a disk engine and TAP devices for JavaScript. It knows no
 * protocol and checks little; most users want `@xenkit/xen`.
 *
 * Every method throws an `Error` whose text begins with the operation. Its `code` is the name of an
 * errno (`'EINVAL'`) or one of:
 * - `'ERR_OUT_OF_RANGE'`: an argument outside its range; nothing was done
 * - `'ERR_ARENA_FULL'`: no run of free pages is long enough, or the process has too many mappings
 * - `'ERR_CLOSED'`: used after `close`
 * - `'ERR_RUNTIME'`: this JavaScript runtime lacks something
 *
 * An argument of a wrong type throws a `TypeError`, or an `Error` with code `'InvalidArg'`.
 *
 * The hottest operations are functions made by `create...` methods. A call takes 0.4 us less than a
 * method, which has to find its object first. Make each function once. It throws as methods do,
 * also after its object's `close`.
 *
 * Objects belong to the thread that made them. When the thread's environment ends, they are closed.
 */

/**
 * Loads the addon, once.
 * @throws Error with code `'ERR_XENKIT_NATIVE'` that says why it can't be loaded here.
 * @throws Error with code `'ERR_XENKIT_NATIVE_ABI'` if the addon was built for another version.
 */
export function loadNative(): Native

export interface Native {
  readonly Arena: new (pages: number) => Arena
  readonly Gntdev: new (arena: Arena, path: string) => Gntdev
  readonly Gntalloc: new (arena: Arena, path: string) => Gntalloc
  readonly Evtchn: new (
    arena: Arena,
    path: string,
    table: number,
    onPending: (count: number) => void,
  ) => Evtchn
  readonly XenbusDevice: new (
    arena: Arena,
    path: string,
    page: number,
    onData: (count: number) => void,
  ) => XenbusDevice
  readonly BlockEngine: new (
    memory: Uint8Array,
    onDone: (count: number) => void,
    kind?: BlockEngine['kind'],
  ) => BlockEngine
  readonly MemoryImage: {
    new (bytes: number): MemoryImage
    /**
     * Opens an image that another thread has open now. Both threads must have loaded the addon from
     * the same file.
     */
    open(id: number): MemoryImage
  }
  readonly TapDevice: new (
    name: string,
    multiQueue: boolean,
    frames: number,
    onReady: (status: number) => void,
    kind?: 'calls',
  ) => TapDevice
  /** Counts what the whole process holds open, over all threads. */
  counters(): Counters
  /**
   * The most grant mappings of the whole process, over all threads: a quarter of vm.max_map_count.
   */
  maxMappings(): number
  /**
   * Discards a range of a file or block device, on Node's thread pool. In a file it punches a hole,
   * which reads as 0; the size stays. `fd` must stay open until the promise settles. Resolves to 0
   * or to a negative errno.
   */
  discard(fd: number, offset: number, length: number): Promise<number>
  /**
   * Takes shared locks on the bytes `take` of an open file, then checks that no other open file has
   * a lock on one of the bytes `unlocked`. Runs on Node's thread pool. The bytes, 1..2^31-1, may
   * lie past the end of the file. The locks belong to the open file (OFD locks, see fcntl(2)) and
   * end when its last descriptor is closed. `fd` must stay open until the promise settles. Resolves
   * to 0, to the first byte on which another's lock conflicts, or to a negative errno.
   */
  lockBytes(fd: number, take: readonly number[], unlocked: readonly number[]): Promise<number>
}

/**
 * One reserved address range of 1..1048576 pages, into which pages are mapped. A run of pages is
 * identified by the byte offset of its first page, a multiple of 4096.
 */
export interface Arena {
  /**
   * Makes an ArrayBuffer over the whole range. Call it once. Every byte stays accessible for as
   * long as the buffer exists, even when runs are mapped or closed. A store to pages mapped
   * read-only ends the process.
   */
  createBuffer(): ArrayBuffer
  /** Allocates zeroed pages, 1 or more; returns their offset. */
  allocate(pages: number): number
  /**
   * Ends the run that begins at `offset`. If a device of the addon uses the run, it ends with that
   * device. The pages read as 0 afterwards. Does nothing after `closeAll`.
   */
  close(offset: number): void
  /** Ends every run, as `close` does. Later allocations and mappings fail. */
  closeAll(): void
  /**
   * Registers what the kernel does when the mapping or share at `offset` ends, even by SIGKILL. It
   * sets the byte at `clearByte` (counted from `offset`) to 0, and notifies the local port `port`.
   * Replaces an earlier setting.
   */
  notifyOnUnmap(offset: number, clearByte: number | undefined, port: number | undefined): void
}

/** Byte offsets of the columns in a table of copies. */
export interface CopyLayout {
  /** u32: grant reference. */
  readonly gref: number
  /** u32: offset in the arena. */
  readonly local: number
  /** u16: offset in the granted page. */
  readonly offset: number
  /** u16: number of bytes. */
  readonly length: number
  /** i16: set by the copy: 0 or a negative GNTST_* code. */
  readonly status: number
  /** Length of the table in bytes. */
  readonly size: number
}

/** /dev/xen/gntdev: maps and copies pages that other domains granted. */
export interface Gntdev {
  /**
   * Maps granted pages onto consecutive pages of the arena, all or none. Also fails with
   * `'ERR_ARENA_FULL'` when the process has `maxMappings()` mappings.
   * @param refs domid, gref, domid, gref ...
   * @returns the arena offset
   */
  map(refs: Uint32Array, writable: boolean): number
  /** Tries one ref. Returns 0 if it can be mapped, else its GNTST_* code or a negative errno. */
  probe(domid: number, gref: number, writable: boolean): number
  /** The layout of a table with room for `capacity` operations, 0..65536. */
  copyLayout(capacity: number): CopyLayout
  /**
   * Makes a function that copies between granted pages of `domid` and the arena (`outward`: from
   * the arena). `table` is the offset of allocated pages with room for `capacity` operations, laid
   * out as `copyLayout` says. A call performs the first `count` operations, sets their status and
   * returns how many failed. If one of them is out of bounds, the call throws and copies nothing.
   */
  createCopy(
    table: number,
    capacity: number,
    domid: number,
    outward: boolean,
  ): (count: number) => number
  /** Closes the device after its last mapping has ended. Idempotent. */
  close(): void
}

/** /dev/xen/gntalloc: grants pages of this domain to other domains. */
export interface Gntalloc {
  /** Allocates zeroed pages, 1 or more, in the arena and grants them to `domid`. */
  share(
    domid: number,
    pages: number,
    writable: boolean,
  ): { readonly offset: number; readonly grefs: readonly number[] }
  /** Closes the device after its last share has ended. Idempotent. */
  close(): void
}

/**
 * /dev/xen/evtchn: event channels. `table` is the offset of two allocated pages: 1024 u32 for
 * pending ports, then 1024 u32 for ports to unmask. `onPending(count)` is called once per wake of
 * the event loop, with `count` ports in the first page. Each of these ports is masked until it is
 * unmasked. A port may be reported without an event, and after its `unbind`. `onPending(0)` means
 * that the driver's queue overflowed: treat every bound port as pending. `onPending(-errno)` means
 * that the device failed and was closed.
 *
 * It keeps the process alive while a port is bound.
 */
export interface Evtchn {
  /** Binds to the unbound port `port` of domain `domid`; returns the local port. */
  bindInterdomain(domid: number, port: number): number
  /** Allocates a port that domain `domid` may bind to; returns it. */
  bindUnbound(domid: number): number
  /** Binds to a virtual interrupt; returns the local port. */
  bindVirq(virq: number): number
  /** Makes the function that notifies a port. */
  createNotify(): (port: number) => void
  /**
   * Makes the function that unmasks the first `count` ports (0..1024) of the table's second page,
   * with one system call.
   */
  createUnmask(): (count: number) => void
  /** Unbinds a port. Does nothing after `close`. */
  unbind(port: number): void
  /** Closes the device, which unbinds every port. Idempotent. */
  close(): void
}

/**
 * /dev/xen/xenbus: the kernel's connection to xenstored. `page` is the offset of an allocated page.
 * `onData(count)` means that the page holds `count` new bytes of the stream, valid during the call.
 * `onData(-errno)` means that the device failed and was closed. It keeps the process alive until it
 * is closed.
 */
export interface XenbusDevice {
  /**
   * Sends one whole message. The driver drops bytes that follow a message in the same write. A
   * message that it refuses with an errno is consumed all the same, so later messages can be sent.
   */
  write(message: Uint8Array): void
  /** Closes the device. Idempotent. */
  close(): void
}

/**
 * Byte offsets of the columns in a block engine's table. `offset` and `bytes` have an element per
 * vector, the other columns an element per job.
 */
export interface TableLayout {
  /** f64: byte in the file, 0..2^53-1. */
  readonly position: number
  /** f64: bytes to discard or to zero, 1..2^53-1. */
  readonly length: number
  /** u32: the number that `open` returned. */
  readonly file: number
  /** u32: index of the first vector of a read or write. */
  readonly first: number
  /** u32: number of vectors of a read or write, 1..1024. They hold at most 0x7ffff000 bytes. */
  readonly count: number
  /**
   * i32: set on completion: bytes moved, 0, or a negative errno. A short count means the end of the
   * file; the rest of the vectors is then undefined.
   */
  readonly result: number
  /** u32: numbers of jobs for the next call, see `SubmitJobs`. */
  readonly list: number
  /** u32: first byte of a vector in the engine's `memory`. */
  readonly offset: number
  /** u32: length of a vector in bytes, 1 or more. */
  readonly bytes: number
  /** u8: read 0, write 1, flush 2 (fdatasync), discard 3, write-zeroes 4. */
  readonly operation: number
  /** Length of the table in bytes. */
  readonly size: number
}

/**
 * Moves data between disk images and memory, many jobs with one call. It never waits for a disk.
 * Within the call it completes reads from the page cache, and all jobs of images in memory (tmpfs
 * or a memory image). The other jobs run asynchronously, by io_uring or by threads. One engine
 * serves all images of an event loop.
 *
 * `memory` (over an ArrayBuffer or SharedArrayBuffer) holds the data. It stays referenced. It must
 * not be detached or resized while jobs are in flight.
 *
 * Jobs are described in tables; each user has its own table, with the columns of `TableLayout`.
 *
 * A row and its vectors are read when the job is submitted, and may be reused afterwards. Jobs in
 * flight at the same time run in any order. So submit a job that depends on another one (a flush on
 * writes, too) after that one has completed. A failed job doesn't affect the others. A file opened
 * with O_DIRECT demands aligned positions, offsets and lengths. A write past the end of a memory
 * image is short; a write past the end of a file extends it. A read of a memory image into pages
 * mapped read-only ends the process; a read of a file fails with EFAULT instead.
 *
 * `onDone(count)` is called at most once per wake of the event loop, with `count` jobs in the list
 * of `createDone`. The list doesn't change during the call. Each entry is a u32: the job's number
 * in the lower 16 bits, its table's in the upper 16. Jobs in flight keep the process alive, and the
 * end of a thread waits for them.
 *
 * `kind` demands io_uring or threads, for tests, or to learn from the error why io_uring is
 * refused.
 */
export interface BlockEngine {
  /**
   * The engine for reads, and for writes with O_DIRECT, that have to wait. Threads run the other
   * operations.
   */
  readonly kind: 'io_uring' | 'threads'
  /**
   * Whether `memory` begins at a page boundary. Offsets that are multiples of the sector size are
   * then aligned for O_DIRECT.
   */
  readonly aligned: boolean
  /** Makes the list of completed jobs. Call it once. */
  createDone(): ArrayBuffer
  /**
   * Adds a table with so many jobs (1..32768) and vectors (0..33554432); returns its number,
   * 0..65535.
   */
  addTable(jobs: number, vectors: number): number
  /** Makes the buffer of a table, all 0. Call it once for each table. */
  createTable(table: number): ArrayBuffer
  /** Byte offsets of the table's columns in its buffer. */
  tableLayout(table: number): TableLayout
  /**
   * Removes a table. Its number may be reused after its last job in flight has completed. Does
   * nothing after `close`.
   */
  removeTable(table: number): void
  /**
   * Opens a file or block device for jobs; returns its number. The engine duplicates `fd`, which
   * may be closed afterwards.
   */
  open(fd: number): number
  /**
   * Opens a memory image for jobs; returns its number, which `release` and jobs take like a file's.
   * The image may be closed afterwards.
   */
  openMemory(image: MemoryImage): number
  /**
   * Frees a file's number for reuse. The file is closed after its last job in flight has completed.
   * Does nothing after `close`.
   */
  release(file: number): void
  /** Makes the function that submits jobs. */
  createSubmit(): SubmitJobs
  /**
   * Starts the deferred jobs: submitted jobs that have to wait, for a disk for example. Does
   * nothing after `close`.
   */
  proceed(): void
  /**
   * Refuses new jobs. `onDone` still reports those in flight, and the last of them frees files and
   * memory. Idempotent.
   */
  close(): void
}

/**
 * Starts the first `count` jobs in a table's column `list`. If one of them is invalid, it throws
 * and starts none. Numbers of jobs that completed at once replace the first entries of the list.
 * The other jobs may be deferred: they have started when `proceed` returns, or the fourth call of
 * this function since.
 * @returns how many jobs completed at once
 */
export type SubmitJobs = (table: number, count: number) => number

/**
 * A zeroed disk image of 1..2^53-1 bytes in an anonymous memory mapping. Its pages take memory when
 * they are written. Jobs of a block engine copy from and to it without a system call. The memory is
 * freed when no thread has the image open and no engine uses it.
 *
 * Threads may use it concurrently. Accesses that race on the same bytes see or leave any mix of
 * both.
 */
export interface MemoryImage {
  /** Identifies the image for another thread's `open`. */
  readonly id: number
  /**
   * Copies bytes from `position` on; returns how many. It is fewer than the buffers hold only at
   * the end of the image.
   */
  read(position: number, into: readonly Uint8Array[]): number
  write(position: number, from: readonly Uint8Array[]): number
  /** Makes a range read as zeros and frees its memory, on Node's thread pool. */
  discard(position: number, length: number): Promise<void>
  /**
   * Truncates the image, or extends it with zeros, for all threads. Jobs of other threads complete
   * before the change or see the new size. They wait while truncated memory is freed: some 40 ms
   * for a GiB.
   */
  resize(bytes: number): void
  /** Closes this object. Closing the last one frees the memory within the call. Idempotent. */
  close(): void
}

/**
 * Byte offsets of the columns in a TAP device's table. Each column has an element per frame, except
 * `error`. Values are those of the columns of `Frames` in @xenkit/frames.
 */
export interface TapLayout {
  /** u32: first byte of the frame in the memory given to a call. */
  readonly start: number
  /** u32: length of the frame in bytes. */
  readonly length: number
  /**
   * u32, one element: errno of the first frame of the last call that failed, else 0. That there is
   * no frame to read isn't a failure.
   */
  readonly error: number
  /** u16: with a blank checksum, the first byte that it covers. */
  readonly checksumStart: number
  /** u16: with a blank checksum, its place relative to `checksumStart`. */
  readonly checksumOffset: number
  /** u16: with a `gso`, most bytes of payload in a segment. */
  readonly gsoSize: number
  /** u16: with a `gso`, bytes of the headers. After `read` it may be larger. */
  readonly headers: number
  /** u8: 0 not verified, 1 verified, 2 blank. */
  readonly checksum: number
  /** u8: 0 none, 1 TCP over IPv4, 2 TCP over IPv6. */
  readonly gso: number
  /** Length of the table in bytes. */
  readonly size: number
}

/**
 * A queue of a TAP device, the network interface `name` (1..15 bytes; the kernel makes a number of
 * `%d`). It creates the interface or attaches to an existing one. With `multiQueue` an interface
 * may have several queues. The interface is deleted with its last queue unless it is persistent.
 *
 * `onReady(0)` is called in each turn of the event loop in which there are frames to read, and
 * `onReady` with a negative errno when the device has failed, for example because the interface was
 * deleted. An open device keeps the process alive.
 *
 * Frames of one call, up to `frames` (1..1024), are described in the device's table. One system
 * call moves all of them where io_uring is allowed, unless `kind` demands a call for each.
 */
export interface TapDevice {
  /** How the frames of a call are moved: by one system call, or by one for each. */
  readonly kind: 'io_uring' | 'calls'
  /** Bytes between the places of received frames: see `createRead`. */
  readonly place: number
  /** The interface's name now. */
  name(): string
  /** Makes the buffer of the table, all 0. Call it once. */
  createTable(): ArrayBuffer
  /** Byte offsets of the table's columns in its buffer. */
  tableLayout(): TapLayout
  /**
   * Makes the function that sends the table's first `count` frames, which lie in `memory`. It
   * returns how many were sent. Each frame is tried, whatever becomes of the others. If a frame
   * isn't inside the memory, it throws and sends none.
   */
  createWrite(): (memory: Uint8Array, count: number) => number
  /**
   * Makes the function that receives up to `count` frames. Their places in `memory` begin at
   * multiples of `place`. It describes the frames in the table and returns how many there are. It
   * throws if `memory` has less than `count` places.
   */
  createRead(): (memory: Uint8Array, count: number) => number
  /**
   * Sets whether `onReady` is called for frames. For a failure it always is. At first it is set.
   */
  watch(on: boolean): void
  /**
   * Sets which incomplete frames are received: blank checksums 1, and TCP segments over IPv4 2 and
   * over IPv6 4, both only with 1. At first it is 0. The kernel completes other frames.
   */
  setOffloads(flags: number): void
  /** Sets whether the interface stays when its last queue is closed. */
  setPersistent(on: boolean): void
  /** Sets the interface's carrier. On Linux before 4.20 it fails with EINVAL. */
  setCarrier(on: boolean): void
  /** Sets the interface up or down. Frames flow only while it is up. */
  setUp(up: boolean): void
  /** Sets the most bytes of a frame without its Ethernet header. */
  setMtu(mtu: number): void
  /** Closes the queue. Idempotent. */
  close(): void
}

/** Numbers of open resources, over all threads. */
export interface Counters {
  /** Open devices, and files of block engines. */
  readonly fds: number
  readonly mappings: number
  readonly shares: number
  readonly ports: number
  /** libuv handles that poll a device. */
  readonly polls: number
  /** Arenas whose memory is still reserved: until their ArrayBuffer is collected. */
  readonly arenas: number
  /** Jobs of block engines that wait for a disk. */
  readonly jobs: number
  /** Memory images whose memory isn't freed yet. */
  readonly images: number
}
