/**
 * The port: everything protocol code knows about a hypervisor. `@xenkit/sim` and `@xenkit/xen`
 * implement it; nothing above can tell which one it runs on.
 *
 * "page" is always 4096 bytes. A domid is an integer 0..32751 (DOMID_FIRST_RESERVED - 1), a gref
 * and an event-channel port are unsigned 32-bit integers.
 */
import type { Arena, Pages } from './arena.ts'

/** One page of another domain, by the reference which that domain granted. */
export interface GrantRef {
  readonly domid: number
  readonly gref: number
}

/**
 * What the hypervisor does when a mapping or a share ends, however it ends (SIGKILL included): the
 * way to tell the other side that this side is gone. Follows `IOCTL_GNTDEV_SET_UNMAP_NOTIFY`.
 */
export interface UnmapNotify {
  /** Offset of a byte within the pages that is set to 0. */
  readonly clearByte?: number
  /** A local event-channel port, bound by this hypervisor, that is notified. */
  readonly port?: number
}

/** Granted pages of another domain, mapped contiguously into the arena in the order of the refs. */
export interface GrantMapping extends Pages {
  /**
   * Holds the pages in place while something outside this thread of control uses them (a disk read
   * in flight, say). `close` on a pinned mapping takes effect when the last pin is gone.
   */
  pin(): void
  /** Ends one `pin`. @throws RangeError without a pin to end. */
  unpin(): void
  notifyOnUnmap(o: UnmapNotify): void
}

/** Own pages, granted to one other domain until closed. */
export interface GrantShare extends Pages {
  /** One reference per page, in order. */
  readonly grefs: Uint32Array
  notifyOnUnmap(o: UnmapNotify): void
}

/**
 * A registered set of arrays that describe grant copies between one domain's granted pages and this
 * arena. Fill the first `count` elements, call once, read `status`. One hypercall batch however
 * large
 * `count` is, and no object per operation: a batch is opened once per ring and used for its life.
 */
export interface GrantCopyBatch extends Disposable {
  /** Length of the arrays. */
  readonly capacity: number
  readonly gref: Uint32Array
  /** First byte within the granted page, 0..4095. */
  readonly offset: Uint16Array
  /** Bytes, 1..4096; offset + length is at most 4096. */
  readonly length: Uint16Array
  /** First byte within the arena. */
  readonly local: Uint32Array
  /** Set by the copy: GNTST_okay (0) or the negative GNTST_* code of each operation. */
  readonly status: Int16Array
  /**
   * Copies from the other domain's pages into the arena.
   * @returns how many of the operations failed; the others are done.
   * @throws RangeError if a count, offset, length or local offset is out of bounds: nothing is
   *   copied.
   * @throws GrantError if the hypervisor refuses the whole call.
   */
  copyIn(count: number): number
  /** Copies from the arena into the other domain's pages; else as `copyIn`. */
  copyOut(count: number): number
  close(): void
}

/** Granted pages of another domain, each mapped where there is room. */
export interface MappedPages extends Disposable {
  /** Offset of each page's first byte in the arena's buffer, in the order of the refs. */
  readonly offsets: Uint32Array
  /**
   * Unmaps all of them. Idempotent.
   * @throws GrantError when they can't be unmapped: they may stay mapped
   */
  close(): void
}

export interface GrantPort {
  /**
   * Maps pages that other domains granted, all or none, one behind the other.
   * @throws GrantError naming the first ref that failed and its status; nothing stays mapped.
   * @throws ArenaFullError when there is no room for them.
   */
  map(refs: readonly GrantRef[], o: { readonly writable: boolean }): GrantMapping
  /** As `map`, but the pages may lie apart. They count as one mapping. */
  mapPages(refs: readonly GrantRef[], o: { readonly writable: boolean }): MappedPages
  /** Registers the arrays of a copy batch with the hypervisor. `capacity` is 1..65536. */
  openCopyBatch(o: { readonly domid: number; readonly capacity: number }): GrantCopyBatch
  /**
   * Allocates zeroed pages and grants them to `domid`.
   * @throws GrantError when grants or pages are used up.
   */
  share(o: {
    readonly domid: number
    readonly pages: number
    readonly writable: boolean
  }): GrantShare
}

/**
 * One end of an event channel. Events carry no data and coalesce: any number of notifications while
 * the port is masked are one event afterwards. Delivery masks the port; `unmask` ends that, and an
 * event that arrived in between is then delivered: none is lost. Do the work first, then unmask.
 */
export interface EvtchnBinding extends Disposable {
  /** The local port, which a frontend publishes as its `event-channel` node. */
  readonly port: number
  notify(): void
  unmask(): void
  /**
   * Unbinds; no event is delivered after it returns. Idempotent.
   * @throws EvtchnError when the kernel refuses; no event is delivered either
   */
  close(): void
}

export interface EvtchnPort {
  // `onEvent` is called from the event loop alone, never within a call of the port or of a binding.

  /**
   * Binds to the port that another domain opened for this one. An event may be pending at once.
   * @throws EvtchnError when there is no such unbound port.
   */
  bindInterdomain(
    o: { readonly domid: number; readonly port: number },
    onEvent: () => void,
  ): EvtchnBinding
  /** Opens a port that `domid` may bind to. */
  bindUnbound(o: { readonly domid: number }, onEvent: () => void): EvtchnBinding
}

/**
 * The sending half of a byte stream. Writes are delivered in order and whole, or the stream closes.
 */
export interface ByteStream {
  /** Takes the bytes before it returns: the caller may reuse the buffer. */
  write(bytes: Uint8Array): void
  /** Ends the stream; the receiver hears nothing more. Idempotent. */
  close(): void
}

/** The receiving half. */
export interface ByteStreamReceiver {
  /** The bytes are valid until the call returns. */
  data(bytes: Uint8Array): void
  /** Called once, when the other side ended the stream. */
  closed(reason: Error): void
}

export interface XenstorePort {
  /**
   * Opens a connection to xenstored. Adapters move bytes; the client owns the protocol.
   * @throws NotAvailableError when no xenstored answers: it may later.
   * @throws HypervisorClosedError when this hypervisor is over.
   */
  connect(receiver: ByteStreamReceiver): Promise<ByteStream>
}

/** A hypervisor as one domain sees it. Closing it closes everything that was opened through it. */
export interface Hypervisor extends AsyncDisposable {
  readonly name: 'xen' | 'sim'
  /** The domain this program runs in. */
  readonly domid: number
  readonly arena: Arena
  readonly grants: GrantPort
  readonly evtchn: EvtchnPort
  readonly xenstore: XenstorePort
  close(): Promise<void>
}
