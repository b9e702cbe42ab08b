/**
 * xenstored's end of a domain's xenstore ring: brings what the domain sends to a store, and back
 * what the store answers. Follows docs/misc/xenstore-ring.txt, with the features "ring
 * reconnection" and "connection error indicator".
 *
 * The domain is hostile. What it breaks ends its connection to the store and sets `error`; it may
 * start again by a reset. A domain that doesn't read its replies isn't listened to either, until it
 * does.
 */
import type { ByteStream, ByteStreamReceiver } from '@xenkit/hypervisor'
import { RingProtocolError } from '@xenkit/hypervisor'
import {
  XENSTORE_CONNECTED,
  XENSTORE_ERROR,
  XENSTORE_RECONNECT,
  XENSTORE_SERVER_FEATURE,
  XsFormatError,
} from '@xenkit/wire'
import { ByteQueue } from './byte-queue.ts'
import type { XenstoreRingEnd } from './connect-xenstore-ring.ts'
import { RingTurns } from './ring-turns.ts'
import { XenstorePage, XenstoreRings } from './xenstore-page.ts'

/** A connection to a store that can hold back what it delivers. */
export interface StoreConnection extends ByteStream {
  /** Holds back deliveries until `resume`. One that is under way still comes. */
  pause(): void
  resume(): void
}

export interface XenstoreRingOptions extends XenstoreRingEnd {
  /** What the page offers to the domain: bits of XENSTORE_SERVER_FEATURE. */
  readonly features: number
  /**
   * Opens a connection to the store with the domain's rights; for its first bytes, and again after
   * a reset. What it throws, the domain is to blame for.
   */
  connect(receiver: ByteStreamReceiver): StoreConnection
}

export interface XenstoreRingServer extends Disposable {
  /** Looks at the page now, without an event: what the domain wrote before is noticed. */
  look(): void
  /**
   * Starts the ring anew, as INTRODUCE does for a domain that xenstored knows. The connection to
   * the store ends, the indices are 0, and from now on the page offers `features`. Only a domain
   * that had asked for a reset gets an event.
   */
  reset(features: number): void
  /** Ends the connection to the store and leaves the page as it is. Idempotent. */
  close(): void
}

/**
 * Bytes of replies that wait before the domain's next requests have to, and the store's next
 * replies.
 */
const WAITING_FULL = 64 * 1024

const NOTHING = new Uint8Array()

/**
 * Serves the ring until it is closed, beginning where its indices are.
 * @throws RangeError if `page` isn't a page, or what `bind` throws
 */
export function serveXenstoreRing(o: XenstoreRingOptions): XenstoreRingServer {
  return new StoreEnd(o)
}

class StoreEnd implements XenstoreRingServer, ByteStreamReceiver {
  readonly #o: XenstoreRingOptions
  readonly #page: XenstorePage
  readonly #turns: RingTurns
  #features: number
  #waiting = new ByteQueue()
  /** Undefined when the connection was given up. */
  #rings: XenstoreRings | undefined
  /** Opened by the first bytes. */
  #store: StoreConnection | undefined
  /** The store is held back. */
  #paused = false

  constructor(o: XenstoreRingOptions) {
    this.#o = o
    this.#page = new XenstorePage(o.page)
    this.#features = o.features
    this.#turns = new RingTurns(
      o.bind,
      () => this.#turn(),
      (error) => this.#giveUp(error),
    )
    this.#attach()
    this.#page.store('error', XENSTORE_ERROR.NONE)
    this.#page.store('server_features', o.features)
    this.#turns.schedule()
  }

  data(bytes: Uint8Array): void {
    this.#waiting.push(bytes)
    this.#attempt(() => {
      if (this.#rings && this.#rings.flush() > 0) this.#turns.notify()
    })
    if (this.#waiting.length < WAITING_FULL) return
    this.#paused = true
    this.#store?.pause()
  }

  closed(reason: Error): void {
    this.#giveUp(reason)
  }

  look(): void {
    this.#turns.run()
  }

  reset(features: number): void {
    this.#features = features
    this.#attempt(() => this.#reset())
  }

  close(): void {
    this.#store?.close()
    this.#turns.close()
  }

  [Symbol.dispose](): void {
    this.close()
  }

  #turn(): boolean {
    const bytes = this.#attempt(() => this.#exchange()) ?? NOTHING
    if (bytes.length === 0) return false
    this.#store ??= this.#attempt(() => this.#o.connect(this))
    this.#store?.write(bytes)
    return true
  }

  /** @returns what has come from the domain */
  #exchange(): Uint8Array {
    if (this.#isAskedToReset && this.#offers(XENSTORE_SERVER_FEATURE.RECONNECTION)) this.#reset()
    if (!this.#rings) return NOTHING
    const sent = this.#rings.flush()
    if (this.#paused && this.#waiting.length < WAITING_FULL) {
      this.#paused = false
      this.#store?.resume()
    }
    const bytes = this.#paused ? NOTHING : this.#rings.read()
    if (sent + bytes.length > 0) this.#turns.notify()
    return bytes
  }

  get #isAskedToReset(): boolean {
    return this.#page.load('connection') === XENSTORE_RECONNECT
  }

  #offers(feature: number): boolean {
    return (this.#features & feature) !== 0
  }

  #reset(): void {
    this.#leaveStore()
    for (const index of ['req_cons', 'req_prod', 'rsp_cons', 'rsp_prod'] as const) {
      this.#page.store(index, 0)
    }
    this.#page.store('error', XENSTORE_ERROR.NONE)
    this.#page.store('server_features', this.#features)
    this.#attach()
    if (!this.#isAskedToReset) return
    // Last: the domain sees the rest of the page as it is now /before/ it takes the ring for
    // connected.
    this.#page.store('connection', XENSTORE_CONNECTED)
    this.#turns.notify()
  }

  #attach(): void {
    this.#waiting = new ByteQueue()
    this.#rings = new XenstoreRings(this.#page, {
      reads: 'req',
      writes: 'rsp',
      waiting: this.#waiting,
      turns: this.#turns,
    })
  }

  /** The store forgets the domain's watches and transactions with its connection. */
  #leaveStore(): void {
    this.#store?.close()
    this.#store = undefined
    this.#paused = false
  }

  #attempt<T>(step: () => T): T | undefined {
    try {
      return step()
    } catch (error) {
      this.#giveUp(error)
      return undefined
    }
  }

  #giveUp(error: unknown): void {
    this.#leaveStore()
    this.#rings = undefined
    if (this.#offers(XENSTORE_SERVER_FEATURE.ERROR)) this.#page.store('error', errorOf(error))
    try {
      this.#turns.notify()
    } catch {
      // The channel is what went wrong, or the domain is gone.
    }
  }
}

function errorOf(error: unknown): number {
  if (error instanceof RingProtocolError) return XENSTORE_ERROR.RINGIDX
  return error instanceof XsFormatError ? XENSTORE_ERROR.PROTO : XENSTORE_ERROR.COMM
}
