/**
 * `@xenkit/native`: Linux's Xen drivers and a disk engine for JavaScript. No protocol knowledge and
 * little comfort:
 * `@xenkit/xen` is the interface for people.
 *
 * Every method throws an `Error` whose `code` is the name of an errno (`'EINVAL'`), or one of
 * `'ERR_OUT_OF_RANGE'` (a value outside its range; nothing was done), `'ERR_ARENA_FULL'`,
 * `'ERR_CLOSED'` (used after `close`) and `'ERR_RUNTIME'` (this JavaScript runtime lacks
 * something), and whose text begins with the operation. A wrong type of argument gives a
 * `TypeError` or an
 * `Error` with code `'InvalidArg'`.
 *
 * What is called all the time is a function that a `create` method makes: such a call takes 0.4 us
 * less than that of a method, which has to find its object first. Make it once. It throws as
 * methods do, after the object's `close` too.
 *
 * Objects belong to the thread that made them. All is closed when that thread's environment ends.
 */

/**
 * Loads the addon, once.
 * @throws Error with code `'ERR_XENKIT_NATIVE'` that says why it can't be loaded here.
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
     * The image of another thread, which has to have it open at this moment, by the same file of
     * the addon.
     */
    open(id: number): MemoryImage
  }
  /** What the whole process holds open, over all threads. */
  counters(): Counters
  /** Most grant mappings of the whole process, over all threads: a quarter of vm.max_map_count. */
  maxMappings(): number
  /**
   * Gives up a range of an open file (a hole that reads as 0; its size stays) or block device, on
   * Node's thread pool. `fd` has to stay open until then. Resolves to 0 or a negative errno.
   */
  discard(fd: number, offset: number, length: number): Promise<number>
  /**
   * Takes shared locks on the bytes `take` of an open file, then looks whether another one has a
   * lock on one of `unlocked`, on Node's thread pool. The bytes, 1..2^31-1, need not exist. The
   * locks are the open file's (OFD locks of fcntl(2)): they end when its last descriptor is closed.
   * `fd` has to stay open until the promise settles.
   * Resolves to 0, to the first byte where another's lock is in the way, or to a negative errno.
   */
  lockBytes(fd: number, take: readonly number[], unlocked: readonly number[]): Promise<number>
}

/**
 * One reserved address range, 1..1048576 pages, into which pages are mapped. A run of pages is
 * known by the byte offset at which it begins, a multiple of 4096.
 */
export interface Arena {
  /**
   * The whole range as an ArrayBuffer. Call it once. Every byte is accessible for as long as the
   * buffer exists, whatever is mapped or closed meanwhile. A store to pages mapped read-only ends
   * the process.
   */
  createBuffer(): ArrayBuffer
  /** Takes zeroed pages, 1 or more; returns their offset. */
  allocate(pages: number): number
  /**
   * Ends the run that begins at `offset`, or marks it to end with its last pin. It then reads as 0.
   * After `closeAll` there is nothing left to do.
   */
  close(offset: number): void
  /** Ends every run, as `close` does. Nothing can be taken from the arena any more. */
  closeAll(): void
  /** Holds the run that begins at `offset`. */
  pin(offset: number): void
  /** Ends one `pin`. */
  unpin(offset: number): void
  /**
   * When the mapping or share that begins at `offset` ends, even by SIGKILL, the kernel sets the
   * byte at
   * `clearByte` (counted from `offset`) to 0 and notifies the local `port`. Replaces an earlier
   * setting.
   */
  notifyOnUnmap(offset: number, clearByte: number | undefined, port: number | undefined): void
}

/** /dev/xen/gntdev: other domains' pages. */
export interface Gntdev {
  /**
   * Maps granted pages contiguously, all or none. The code of an error is `'ERR_ARENA_FULL'`, too,
   * when the process has `maxMappings()` mappings.
   * @param refs domid, gref, domid, gref ...
   * @returns the arena offset
   */
  map(refs: Uint32Array, writable: boolean): number
  /** Tries one ref. Returns 0 if it can be mapped, else its GNTST_* code or a negative errno. */
  probe(domid: number, gref: number, writable: boolean): number
  /**
   * Makes a function that copies between granted pages of `domid` and the arena (`outward`: from
   * the arena).
   * `table` is the offset of allocated pages that hold `capacity` (at most 65536) operations as
   * columns, one after the other: gref u32, local arena offset u32, offset in the page u16, length
   * u16, status i16. A call does the first `count`, sets their status and returns how many failed.
   * Nothing is copied if one of them is out of bounds.
   */
  createCopy(
    table: number,
    capacity: number,
    domid: number,
    outward: boolean,
  ): (count: number) => number
  /** Mappings live on. Idempotent. */
  close(): void
}

/** /dev/xen/gntalloc: own pages for another domain. */
export interface Gntalloc {
  /** Allocates zeroed pages, 1 or more, in the arena and grants them to `domid`. */
  share(
    domid: number,
    pages: number,
    writable: boolean,
  ): { readonly offset: number; readonly grefs: readonly number[] }
  /** Shares live on. Idempotent. */
  close(): void
}

/**
 * /dev/xen/evtchn. `table` is the offset of two allocated pages: 1024 u32 of pending ports and 1024
 * of ports to unmask. `onPending(count)` is called once per wake of the event loop, with `count`
 * ports in the first page; each is masked until unmasked. A port may come without an event, and
 * after its
 * `unbind`. `onPending(0)` says that the driver lost count of pending ports: treat every bound one
 * as pending. `onPending(-errno)` says that the device failed and was closed.
 *
 * Keeps the process alive while a port is bound.
 */
export interface Evtchn {
  /** Returns the local port. */
  bindInterdomain(domid: number, port: number): number
  /** Returns the local port. */
  bindUnbound(domid: number): number
  /** Returns the local port. */
  bindVirq(virq: number): number
  /** Makes the function that sends an event. */
  createNotify(): (port: number) => void
  /**
   * Makes the function that unmasks the first `count` ports of the table's second page, 0..1024,
   * with one system call.
   */
  createUnmask(): (count: number) => void
  /** After `close` there is nothing left to do. */
  unbind(port: number): void
  /** Unbinds every port. Idempotent. */
  close(): void
}

/**
 * /dev/xen/xenbus. `page` is the offset of an allocated page. `onData(count)` says that the page
 * holds
 * `count` new bytes of the stream, valid during the call; `onData(-errno)` that the device failed
 * and was closed. Keeps the process alive until closed.
 */
export interface XenbusDevice {
  /**
   * Sends one whole message: the driver drops what follows a message in the same write. What it
   * refuses with an errno it has consumed: the stream goes on.
   */
  write(message: Uint8Array): void
  /** Idempotent. */
  close(): void
}

/**
 * Moves data between disk images and memory, many jobs with one call, and never waits for a disk:
 * what is in the page cache is read within the call, as is all on a file system in memory (tmpfs)
 * and of a memory image; the rest is done beside the event loop, by io_uring or, where the system
 * refuses it, by threads. One engine serves every image of an event loop.
 *
 * `memory` (over an ArrayBuffer or SharedArrayBuffer) is where data lies. It stays referenced, and
 * must be neither detached nor resized while jobs are in flight.
 *
 * Jobs are described in tables, of which each user has one, made of columns that lie one after the
 * other:
 *
 * | column | type | of each job |
 * |---|---|---|
 * | position | f64 | byte in the file, 0..2^53-1 |
 * | length | f64 | of discard and write-zeroes: bytes, 1..2^53-1 |
 * | file | u32 | what `open` returned |
 * | first | u32 | of read and write: its first vector |
 * | count | u32 | of read and write: its number of vectors, 1..1024; they hold at most 0x7ffff000
 * bytes |
 * | result | i32 | set when it is done: bytes moved, fewer than asked for only at the end of the
 * file (its vectors past that are undefined), or 0; or a negative errno |
 * | list | u32 | (of the call) numbers of jobs, see `SubmitJobs` |
 *
 * then, of each vector, `offset` u32 and `bytes` u32 (1 or more) in `memory`, and last, of each
 * job,
 * `operation` u8: read 0, write 1, flush 2 (fdatasync), discard 3, write-zeroes 4.
 *
 * A row and its vectors are read when they are submitted and free after that. Jobs in flight
 * together run in any order: one that depends on another (a flush on writes, too) is submitted when
 * that is done. One that fails doesn't hinder the others. A direct file (O_DIRECT) demands aligned
 * positions, offsets and lengths. A write ends short at the end of a memory image, and lengthens a
 * file. What a read of a memory image names must not be pages mapped read-only: that ends the
 * process, where a file's fails with EFAULT.
 *
 * `onDone(count)` is called at most once per wake of the event loop, with `count` jobs in the list
 * of
 * `createDone`, which stays as it is during the call: u32 each, a job's number in the lower 16
 * bits, its table's in the upper. Jobs in flight keep the process alive. A thread's end waits for
 * them.
 *
 * `kind` demands one or the other, for tests and to learn why io_uring is refused: an error says so
 * then.
 */
export interface BlockEngine {
  /** What serves transfers that have to wait; threads do the other operations. */
  readonly kind: 'io_uring' | 'threads'
  /**
   * Whether `memory` begins at a page: offsets are then aligned as a direct file demands if they
   * are multiples of its sectors.
   */
  readonly aligned: boolean
  /** The list of what is done. Call it once. */
  createDone(): ArrayBuffer
  /**
   * Adds a table of so many jobs (1..32768) and vectors (0..33554432); returns its number,
   * 0..65535.
   */
  addTable(jobs: number, vectors: number): number
  /** A table, all 0. Call it once for each. */
  createTable(table: number): ArrayBuffer
  /**
   * Lets go of a table, whose number may come again after its last job in flight is done. After
   * `close` there is nothing left to do.
   */
  removeTable(table: number): void
  /**
   * Takes a file or block device, which it looks at as `fstat` does; returns its number. `fd` may
   * be closed after that.
   */
  open(fd: number): number
  /**
   * Takes a memory image, which may be closed after that; returns its number, a file's to `release`
   * and to jobs.
   */
  openMemory(image: MemoryImage): number
  /**
   * Lets go of a file, whose number may come again; it is closed after its last job in flight.
   * After `close` there is nothing left to do.
   */
  release(file: number): void
  /** Makes the function that submits. */
  createSubmit(): SubmitJobs
  /**
   * Begins what has to wait, for a disk say, of all that was submitted. After `close` there is
   * nothing left to do.
   */
  proceed(): void
  /**
   * Refuses jobs; `onDone` still tells of those in flight. Files and memory go with the last.
   * Idempotent.
   */
  close(): void
}

/**
 * Starts the first `count` jobs of a table's column `list`, or none, with an error, if something is
 * wrong with one of them. Those that are done already are listed at its beginning then. Others have
 * begun when `proceed` returns, or the fourth call since.
 * @returns how many are
 */
export type SubmitJobs = (table: number, count: number) => number

/**
 * The bytes of a disk in memory, 1..2^53-1, zeroed: an anonymous mapping of its own, which takes
 * memory for what was written. Jobs of a block engine copy from and to it without a system call.
 * The memory goes when no thread has it open and no engine uses it.
 *
 * Threads use it side by side. What they read and write in the same place at once is any mix of
 * both.
 */
export interface MemoryImage {
  /** What another thread gives to `open`. */
  readonly id: number
  /**
   * Copies from `position` on; returns how many bytes, fewer than there is room for only at the
   * end.
   */
  read(position: number, into: readonly Uint8Array[]): number
  write(position: number, from: readonly Uint8Array[]): number
  /** Makes a range read as zeros, and gives its memory back, on Node's thread pool. */
  discard(position: number, length: number): Promise<void>
  /**
   * Cuts it, or lengthens it by zeros, for all threads. Jobs of theirs end before or find the new
   * size, and wait for the memory of what is cut to be freed: some 40 ms for a GiB.
   */
  resize(bytes: number): void
  /** The last one frees the memory within the call. Idempotent. */
  close(): void
}

/** Live things. */
export interface Counters {
  /** Open devices, and files of block engines. */
  readonly fds: number
  readonly mappings: number
  readonly shares: number
  readonly ports: number
  /** libuv handles that watch a device. */
  readonly polls: number
  /** Arenas; their memory goes when the ArrayBuffer is collected. */
  readonly arenas: number
  /** Jobs of block engines that wait for a disk. */
  readonly jobs: number
  /** Memory images whose memory is still there. */
  readonly images: number
}
