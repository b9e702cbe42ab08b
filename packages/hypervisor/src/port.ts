/**
 * The port: everything that protocol code knows about a hypervisor. `@xenkit/sim` and `@xenkit/xen`
 * implement it; protocol code can't tell which one it runs on.
 *
 * A page is always 4096 bytes. A domid is an integer 0..32751 (DOMID_FIRST_RESERVED - 1). A gref
 * and an event-channel port are unsigned 32-bit integers.
 */
import type { Arena, Pages } from './arena.ts'
import type { EventLoop } from './event-loop.ts'

/** One page of another domain, named by the grant reference that this domain received. */
export interface GrantRef {
  readonly domid: number
  readonly gref: number
}

/**
 * Actions that the hypervisor takes when a mapping or a share ends, even by SIGKILL. They tell the
 * other side that this side is gone. Follows `IOCTL_GNTDEV_SET_UNMAP_NOTIFY`.
 */
export interface UnmapNotify {
  /** Offset within the pages of a byte that the hypervisor sets to 0. */
  readonly clearByte?: number
  /** A local event-channel port, bound by this hypervisor, that the hypervisor notifies. */
  readonly port?: number
}

/** Granted pages of another domain, mapped contiguously into the arena in the order of the refs. */
export interface GrantMapping extends Pages {
  notifyOnUnmap(o: UnmapNotify): void
}

/** Pages of this domain, granted to one other domain until closed. */
export interface GrantShare extends Pages {
  /** One reference per page, in order. */
  readonly grefs: Uint32Array
  notifyOnUnmap(o: UnmapNotify): void
}

/**
 * A registered set of arrays that describe grant copies between one domain's granted pages and this
 * arena. Fill the first `count` elements, call once, read `status`. A batch is one ioctl however
 * large `count` is, and needs no object per operation. Open one per ring and use it for the ring's
 * life.
 */
export interface GrantCopyBatch extends Disposable {
  /** Length of the arrays. */
  readonly capacity: number
  readonly gref: Uint32Array
  /** First byte within the granted page, 0..4095. */
  readonly offset: Uint16Array
  /** Bytes, 1..4096; offset + length is at most 4096. */
  readonly length: Uint16Array
  /** Offset of the first byte in the arena's buffer. */
  readonly local: Uint32Array
  /** Set by the copy: GNTST_okay (0) or a negative GNTST_* code for each operation. */
  readonly status: Int16Array
  /**
   * Copies from the other domain's pages into the arena.
   * @param count operations to run: elements 0..count-1 of the arrays
   * @returns how many operations failed; the others are complete
   * @throws RangeError if a count, offset, length or local offset is out of bounds; nothing is
   *   copied
   * @throws GrantError if the hypervisor refuses the whole call
   */
  copyIn(count: number): number
  /**
   * Copies from the arena into the other domain's pages. Arguments and errors are those of
   * `copyIn`.
   */
  copyOut(count: number): number
  close(): void
}

/** Granted pages of another domain, each mapped wherever the arena has room. */
export interface MappedPages extends Disposable {
  /** Offset of each page's first byte in the arena's buffer, in the order of the refs. */
  readonly offsets: Uint32Array
  /**
   * Unmaps all of them. Idempotent.
   * @throws GrantError when they can't be unmapped; they may stay mapped
   */
  close(): void
}

/** Options of `GrantPort.mapPages`. */
export interface MapPagesOptions {
  readonly writable: boolean
  /**
   * With pages that aren't writable: whether stores of the other domain have to show, as they
   * always do on Xen. Default false: the simulation shows a copy, to find stores to it.
   */
  readonly live?: boolean
}

/** Grant tables as one domain uses them. Follows xen/include/public/grant_table.h. */
export interface GrantPort {
  /**
   * Maps pages that other domains granted, all or none, contiguously in the order of the refs.
   * @throws GrantError naming the first ref that failed and its status; nothing stays mapped
   * @throws ArenaFullError when there is no room for them
   */
  map(refs: readonly GrantRef[], o: { readonly writable: boolean }): GrantMapping
  /**
   * Maps pages as `map` does, except that they may lie apart in the arena. They count as one
   * mapping.
   * @throws GrantError naming the first ref that failed and its status; nothing stays mapped
   * @throws ArenaFullError when there is no room for them
   */
  mapPages(refs: readonly GrantRef[], o: MapPagesOptions): MappedPages
  /**
   * Opens a batch of grant copies from and to pages of `domid`.
   * @param o.capacity most operations of one call, 1..65536
   */
  openCopyBatch(o: { readonly domid: number; readonly capacity: number }): GrantCopyBatch
  /**
   * Allocates zeroed pages and grants them to `domid`.
   * @throws GrantError when grants or pages are used up
   */
  share(o: {
    readonly domid: number
    readonly pages: number
    readonly writable: boolean
  }): GrantShare
}

/**
 * One end of an event channel. Events carry no data and coalesce: any number of notifications while
 * the port is masked are one event afterwards. Delivery masks the port. `unmask` delivers an event
 * that arrived in between, so that none is lost: do the work first, then unmask.
 */
export interface EvtchnBinding extends Disposable {
  /** The local port, which a frontend publishes as its `event-channel` node. */
  readonly port: number
  /** Sends an event to the other end. */
  notify(): void
  /** Ends the masking that delivery began; a pending event is delivered from the event loop. */
  unmask(): void
  /**
   * Unbinds the port. No event is delivered after it returns. Idempotent.
   * @throws EvtchnError when the kernel refuses; no event is delivered either
   */
  close(): void
}

/** Event channels as one domain uses them. Follows xen/include/public/event_channel.h. */
export interface EvtchnPort {
  // `onEvent` is called from the event loop alone, never within a call of the port or of a binding.

  /**
   * Binds to the port that another domain opened for this one. An event may be pending at once.
   * @throws EvtchnError when there is no such unbound port
   */
  bindInterdomain(
    o: { readonly domid: number; readonly port: number },
    onEvent: () => void,
  ): EvtchnBinding
  /**
   * Opens a port that `domid` may bind to.
   * @throws EvtchnError when ports are used up
   */
  bindUnbound(o: { readonly domid: number }, onEvent: () => void): EvtchnBinding
  /**
   * Binds to a virtual interrupt, an event that Xen itself sends, on VCPU 0. The binding's `notify`
   * does nothing.
   * @param o.virq a number of VIRQ in @xenkit/wire
   * @throws EvtchnError with errno EINVAL when there is no such interrupt, EEXIST when this domain
   *   has bound it (its kernel binds some), EBUSY when it is global and another domain's
   */
  bindVirq(o: { readonly virq: number }, onEvent: () => void): EvtchnBinding
}

/** The sending half of a byte stream. Writes arrive in order and whole, or the stream closes. */
export interface ByteStream {
  /** Sends bytes. It copies them before it returns, so the caller may reuse the buffer. */
  write(bytes: Uint8Array): void
  /** Ends the stream; the receiver is not called any more. Idempotent. */
  close(): void
}

/** The receiving half of a byte stream. */
export interface ByteStreamReceiver {
  /** Called with bytes that arrived. They are valid until the call returns. */
  data(bytes: Uint8Array): void
  /** Called once, when the other side has ended the stream. */
  closed(reason: Error): void
}

/** A domain's way to xenstored. */
export interface XenstorePort {
  /**
   * Opens a connection to xenstored. Adapters move bytes; the client knows the protocol.
   * @throws NotAvailableError when no xenstored answers; a later attempt may succeed
   * @throws HypervisorClosedError when this hypervisor is closed
   */
  connect(receiver: ByteStreamReceiver): Promise<ByteStream>
}

/** A hypervisor as one domain sees it. Closing it closes everything that was opened through it. */
export interface Hypervisor extends AsyncDisposable {
  readonly name: 'xen' | 'sim'
  /** The domain this program runs in. */
  readonly domid: number
  readonly arena: Arena
  /** State that all devices served through this hypervisor share. */
  readonly loop: EventLoop
  readonly grants: GrantPort
  readonly evtchn: EvtchnPort
  readonly xenstore: XenstorePort
  close(): Promise<void>
}
