/**
 * `@xenkit/native`: Linux's Xen drivers for JavaScript. No protocol knowledge and little comfort:
 * `@xenkit/xen` is the interface for people.
 *
 * Every method throws an `Error` whose `code` is the name of an errno (`'EINVAL'`), or one of
 * `'ERR_OUT_OF_RANGE'` (a value outside its range; nothing was done), `'ERR_ARENA_FULL'`,
 * `'ERR_CLOSED'` (used after `close`) and `'ERR_RUNTIME'` (this JavaScript runtime lacks something),
 * and whose text begins with the operation. A wrong type of argument gives a `TypeError` or an
 * `Error` with code `'InvalidArg'`.
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
  readonly Evtchn: new (arena: Arena, path: string, table: number, onPending: (count: number) => void) => Evtchn
  readonly XenbusDevice: new (arena: Arena, path: string, page: number, onData: (count: number) => void) => XenbusDevice
  /** What the whole process holds open, over all threads. */
  counters(): Counters
  /**
   * Gives up a range of an open file (a hole that reads as 0; its size stays) or block device, on Node's
   * thread pool. `fd` has to stay open until then. Resolves to 0 or a negative errno.
   */
  discard(fd: number, offset: number, length: number): Promise<number>
}

/**
 * One reserved address range, 1..1048576 pages, into which pages are mapped. A run of pages is known by
 * the byte offset at which it begins, a multiple of 4096.
 */
export interface Arena {
  /**
   * The whole range as an ArrayBuffer. Call it once. Every byte is accessible for as long as the buffer
   * exists, whatever is mapped or closed meanwhile. A store to pages mapped read-only ends the process.
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
   * When the mapping or share that begins at `offset` ends, even by SIGKILL, the kernel sets the byte at
   * `clearByte` (counted from `offset`) to 0 and notifies the local `port`. Replaces an earlier setting.
   */
  notifyOnUnmap(offset: number, clearByte: number | undefined, port: number | undefined): void
}

/** /dev/xen/gntdev: other domains' pages. */
export interface Gntdev {
  /**
   * Maps granted pages contiguously, all or none.
   * @param refs domid, gref, domid, gref ...
   * @returns the arena offset
   */
  map(refs: Uint32Array, writable: boolean): number
  /** Tries one ref. Returns 0 if it can be mapped, else its GNTST_* code or a negative errno. */
  probe(domid: number, gref: number, writable: boolean): number
  /**
   * Copies between granted pages of `domid` and the arena (`outward`: from the arena). `table` is the
   * offset of allocated pages that hold `capacity` (at most 65536) operations as columns, one after
   * the other: gref u32, local arena offset u32, offset in the page u16, length u16, status i16. The
   * first `count` are done and their status is set. Nothing is copied if one of them is out of bounds.
   * @returns how many failed
   */
  copy(table: number, capacity: number, count: number, domid: number, outward: boolean): number
  /** Mappings live on. Idempotent. */
  close(): void
}

/** /dev/xen/gntalloc: own pages for another domain. */
export interface Gntalloc {
  /** Allocates zeroed pages, 1 or more, in the arena and grants them to `domid`. */
  share(domid: number, pages: number, writable: boolean): { readonly offset: number; readonly grefs: readonly number[] }
  /** Shares live on. Idempotent. */
  close(): void
}

/**
 * /dev/xen/evtchn. `table` is the offset of two allocated pages: 1024 u32 of pending ports and 1024 of
 * ports to unmask. `onPending(count)` is called once per wake of the event loop, with `count` ports in
 * the first page; each is masked until unmasked. A port may come without an event, and after its
 * `unbind`. `onPending(-errno)` says that the device failed and was closed.
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
  notify(port: number): void
  /** Unmasks the first `count` ports of the table's second page, 0..1024, with one system call. */
  unmask(count: number): void
  /** After `close` there is nothing left to do. */
  unbind(port: number): void
  /** Unbinds every port. Idempotent. */
  close(): void
}

/**
 * /dev/xen/xenbus. `page` is the offset of an allocated page. `onData(count)` says that the page holds
 * `count` new bytes of the stream, valid during the call; `onData(-errno)` that the device failed and
 * was closed. Keeps the process alive until closed.
 */
export interface XenbusDevice {
  /**
   * Sends one whole message: the driver drops what follows a message in the same write. After an error
   * the stream is of no use.
   */
  write(message: Uint8Array): void
  /** Idempotent. */
  close(): void
}

/** Live things. */
export interface Counters {
  readonly fds: number
  readonly mappings: number
  readonly shares: number
  readonly ports: number
  /** libuv handles that watch a device. */
  readonly polls: number
  /** Arenas; their memory goes when the ArrayBuffer is collected. */
  readonly arenas: number
}
