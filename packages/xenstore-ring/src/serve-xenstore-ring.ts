/**
 * xenstored's end of a domain's xenstore ring: passes the domain's bytes to a store, and the
 * store's bytes back. Follows docs/misc/xenstore-ring.txt, with the features "ring reconnection"
 * and "connection error indicator".
 *
 * The domain is hostile. If it breaks a rule, its connection to the store ends and `error` is set;
 * it may start again by a reset. While a domain doesn't read its replies, its requests aren't read
 * either.
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

/** A connection to a store whose deliveries can be paused. */
export interface StoreConnection extends ByteStream {
  /** Stops deliveries until `resume`. A delivery that is in progress still arrives. */
  pause(): void
  resume(): void
}

/** Options of `serveXenstoreRing`. */
export interface XenstoreRingOptions extends XenstoreRingEnd {
  /** Features that the page offers to the domain: bits of XENSTORE_SERVER_FEATURE. */
  readonly features: number
  /**
   * Opens a connection to the store with the domain's rights. Called for the first bytes, and again
   * for those after a reset. An error that it throws ends the domain's connection.
   */
  connect(receiver: ByteStreamReceiver): StoreConnection
}

/** A ring that is being served. */
export interface XenstoreRingServer extends Disposable {
  /** Checks the page now, without an event, for requests that the domain wrote before. */
  look(): void
  /**
   * Resets the ring, as INTRODUCE does for a domain that xenstored knows. The connection to the
   * store ends, the indices become 0, and the page offers `features`. The domain gets an event only
   * if it had requested a reset.
   */
  reset(features: number): void
  /** Ends the connection to the store and leaves the page unchanged. Idempotent. */
  close(): void
}

/**
 * Queued bytes of replies from which on the domain's requests aren't read, and the store is paused.
 */
const WAITING_FULL = 64 * 1024

const NOTHING = new Uint8Array()

/**
 * Serves the ring until it is closed, starting at its present indices.
 * @throws RangeError if `page` isn't a page
 * @throws the error of `bind`
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
  /** The ring's two directions; undefined after an error has closed the connection. */
  #rings: XenstoreRings | undefined
  /** The connection to the store, opened when the domain's first bytes arrive. */
  #store: StoreConnection | undefined
  /** Whether the store's deliveries are stopped. */
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

  /**
   * Sends and receives as many bytes as the ring allows.
   * @returns the bytes that the domain sent
   */
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
    // Store this word last: the domain then sees the rest of the page updated /before/ the ring
    // appears as connected.
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

  /** Ends the connection to the store, which drops the domain's watches and transactions. */
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
      // Ignore the error: either the event channel has failed, or the domain is gone.
    }
  }
}

function errorOf(error: unknown): number {
  if (error instanceof RingProtocolError) return XENSTORE_ERROR.RINGIDX
  return error instanceof XsFormatError ? XENSTORE_ERROR.PROTO : XENSTORE_ERROR.COMM
}
