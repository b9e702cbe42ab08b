/** A network card as its guest uses it. */
import { Frames, MAX_FRAME, MIN_FRAME, type Offloads } from '@xenkit/frames'
import { XenError, expectInteger } from '@xenkit/hypervisor'
import { XEN_NETIF_EXTRA_TYPE } from '@xenkit/wire'
import { MAX_XDP_HEADROOM } from '../nodes.ts'
import type { ControlClient, HashSettings } from './control-client.ts'
import { FrameIterator } from './frame-iterator.ts'
import type { VifQueue } from './vif-queue.ts'
import type { VifCounts } from './vif-counts.ts'

/** A network card was closed, by this side or by its backend. */
export class VifClosedError extends XenError {
  constructor(devid: number) {
    super('ERR_XEN_VIF_CLOSED', `network card ${devid} was closed`, { devid })
  }
}

/** Parts of a `Vif`, which `openVif` puts together. */
export interface VifParts {
  readonly devid: number
  readonly mac: Uint8Array | undefined
  readonly mtu: number
  readonly offloads: Offloads
  readonly queues: readonly VifQueue[]
  readonly control: ControlClient | undefined
  readonly counts: VifCounts
  /** Sets the headroom, and waits until the backend uses it. */
  readonly setXdpHeadroom: (bytes: number, o: { readonly signal?: AbortSignal }) => Promise<void>
  /**
   * Closes the device once the backend agrees, or when the signal aborts. Then frees all that the
   * card used.
   */
  readonly close: (signal: AbortSignal) => Promise<void>
}

/** Called with each batch of received frames. */
export type FramesListener = (frames: Frames, queue: number) => void

/**
 * A network card as its guest uses it, from `openVif` until `close`. After the backend closed or
 * restarted, open the card again.
 *
 * @example
 * await using vif = await openVif(hv, { devid: 0 })
 * for await (const frame of vif) await vif.sendFrame(frame) // sends everything back
 */
export class Vif implements AsyncDisposable, AsyncIterable<Uint8Array> {
  /** The card's address, as the toolstack says: six bytes. Undefined if it says none. */
  readonly mac: Uint8Array | undefined
  /** Most bytes of a packet without its Ethernet header, as the toolstack says. */
  readonly mtu: number
  /** Incomplete frames that `send` takes, because the backend completes them. */
  readonly offloads: Offloads
  /** Number of queues. */
  readonly queues: number
  readonly #p: VifParts
  readonly #listeners = new Set<FramesListener>()
  readonly #carrierListeners = new Set<(up: boolean) => void>()
  readonly #iterators = new Set<FrameIterator>()
  /** The batch of `sendFrame`. */
  readonly #single = new Frames(1)
  #linkUp = true
  #failure: { readonly error: unknown } | undefined
  #closed: Promise<void> | undefined
  /** Aborts the wait for a backend that doesn't close. */
  readonly #giveUp = new AbortController()

  /** For `openVif` alone. */
  constructor(parts: VifParts) {
    this.#p = parts
    this.mac = parts.mac
    this.mtu = parts.mtu
    this.offloads = parts.offloads
    this.queues = parts.queues.length
  }

  /** The card's counters: a copy. */
  get counts(): Readonly<VifCounts> {
    return { ...this.#p.counts }
  }

  /** Whether the backend's link is up, and the card is open. */
  get carrier(): boolean {
    return this.#linkUp && !this.#failure
  }

  /**
   * Sends frames in order, until the queue's ring is full. Await `writable` to send the rest.
   * `MAX_FRAME` is the most that the ring takes, whatever `mtu` says. Frames are dropped and
   * counted in `counts.refused` if they are incomplete in a way that `offloads` doesn't allow. A
   * frame whose memory is the arena's is copied without creating an object.
   *
   * @param from index of the first frame to send
   * @param queue number of the queue, 0..queues-1
   * @returns how many frames were taken; the batch is the caller's again
   * @throws RangeError for a queue that the card doesn't have
   * @throws VifClosedError, or the error that closed the card
   */
  send(frames: Frames, from = 0, queue = 0): number {
    const { tx } = this.#queue(queue)
    try {
      return tx.send(frames, from) - from
    } catch (error) {
      this.lost(error)
      throw error
    }
  }

  /**
   * Resolves when the queue has room for a frame of any length.
   * @throws errors as `send`
   */
  async writable(queue = 0): Promise<void> {
    await this.#queue(queue).writable()
  }

  /**
   * Sends one complete frame on queue 0, as soon as there is room.
   * @throws RangeError for a frame that isn't of 14..65535 bytes
   * @throws errors as `send`
   */
  async sendFrame(frame: Uint8Array): Promise<void> {
    expectInteger('frame.length', frame.length, MIN_FRAME, MAX_FRAME)
    do {
      await this.writable()
      this.#single.reset(frame)
      this.#single.add({ start: 0, length: frame.length })
    } while (this.send(this.#single) === 0)
  }

  /**
   * Calls the listener with each batch of received frames, until the returned object is disposed
   * of. The batch and its memory are valid until the listener returns. Receiving starts with the
   * first listener or iteration: earlier frames wait in the ring. Later frames that nobody listens
   * for are dropped. An error of the listener closes the card.
   */
  onFrames(listener: FramesListener): Disposable {
    this.#listeners.add(listener)
    this.#receive()
    return { [Symbol.dispose]: () => void this.#listeners.delete(listener) }
  }

  /**
   * Calls the listener after each change of `carrier`, until the returned object is disposed of.
   */
  onCarrier(listener: (up: boolean) => void): Disposable {
    this.#carrierListeners.add(listener)
    return { [Symbol.dispose]: () => void this.#carrierListeners.delete(listener) }
  }

  /**
   * Iterates over copies of received frames, from this call on, until the card is closed. At most
   * 1024 frames wait to be fetched; more are dropped, and counted in `counts.overrun`. Frames may
   * be incomplete if the card was opened with `offloads`.
   */
  [Symbol.asyncIterator](): AsyncIterableIterator<Uint8Array> {
    const iterator: FrameIterator = new FrameIterator(() => this.#iterators.delete(iterator))
    if (this.#failure) iterator.end()
    else this.#iterators.add(iterator)
    this.#receive()
    return iterator
  }

  /**
   * Adds an address to the backend's multicast filter, or removes it. The filter has an effect if
   * the card was opened with `multicastControl`.
   * @returns false if queue 0 is full: await `writable`
   * @throws RangeError for an address that isn't of six bytes
   * @throws errors as `send`
   */
  setMulticast(mac: Uint8Array, wanted: boolean): boolean {
    expectInteger('mac.length', mac.length, 6, 6)
    const { MCAST_ADD, MCAST_DEL } = XEN_NETIF_EXTRA_TYPE
    return this.#queue(0).tx.sendMulticast(wanted ? MCAST_ADD : MCAST_DEL, mac)
  }

  /**
   * Sets how the backend distributes received frames over the queues. Undefined: in its own way.
   * @throws TypeError if the backend has no control ring
   * @throws RangeError for a key of more than 4096 bytes, or a mapping of more than 1024 entries
   * @throws VifControlError if the backend refuses a setting
   * @throws VifClosedError, or the error that closed the card
   */
  async setHash(settings: HashSettings | undefined): Promise<void> {
    const { control } = this.#p
    if (!control) throw new TypeError('the backend offers no control ring (feature-ctrl-ring)')
    await control.setHash(settings)
  }

  /**
   * Sets how many bytes the backend leaves free before each received frame. Listeners get the
   * frames without them: for tests of backends.
   * @param bytes 0..32767
   * @param o.signal ends the wait for the backend
   * @throws RangeError for a number out of range, or if the backend doesn't offer it
   * @throws NegotiationError if the backend closes instead
   */
  async setXdpHeadroom(bytes: number, o: { readonly signal?: AbortSignal } = {}): Promise<void> {
    expectInteger('bytes', bytes, 0, MAX_XDP_HEADROOM)
    await this.#p.setXdpHeadroom(bytes, o)
  }

  /**
   * Closes the device once the backend agrees, and frees its pages. Frames in flight may be lost.
   * If the backend closes first, the card closes by itself.
   * @param o.signal ends the wait for the backend, also that of an earlier call: `close` then
   *   rejects with the signal's reason. Pages that the backend still maps are not reused.
   */
  async close({ signal }: { readonly signal?: AbortSignal } = {}): Promise<void> {
    this.#fail(new VifClosedError(this.#p.devid))
    const giveUp = (): void => this.#giveUp.abort(signal?.reason)
    if (signal?.aborted) giveUp()
    signal?.addEventListener('abort', giveUp)
    try {
      await (this.#closed ??= this.#p.close(this.#giveUp.signal))
    } finally {
      signal?.removeEventListener('abort', giveUp)
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close()
  }

  /** For `openVif`: starts to handle events. */
  start(): void {
    const failed = (error: unknown): void => this.lost(error)
    for (const queue of this.#p.queues) queue.start(failed)
    this.#p.control?.start(failed)
  }

  /** For `openVif`, whose rings call it. */
  received(frames: Frames, queue: number): void {
    for (const listener of this.#listeners) listener(frames, queue)
    for (const iterator of this.#iterators) this.#p.counts.overrun += iterator.push(frames)
  }

  /**
   * For `openVif`: fails the callers that wait with `error`, and closes the card. The next `close`
   * returns the outcome.
   */
  lost(error: unknown): void {
    this.#fail(error)
    this.close().catch(() => {})
  }

  /** For `openVif`, which watches the backend's node. */
  setLink(up: boolean): void {
    this.#linkUp = up
    if (!this.#failure) this.#tellCarrier()
  }

  #queue(queue: number): VifQueue {
    if (this.#failure) throw this.#failure.error
    expectInteger('queue', queue, 0, this.queues - 1)
    const found = this.#p.queues[queue]
    if (!found) throw new RangeError(`there is no queue ${queue}`)
    return found
  }

  #receive(): void {
    for (const queue of this.#p.queues) queue.receive((error) => this.lost(error))
  }

  #fail(error: unknown): void {
    if (this.#failure) return
    this.#failure = { error }
    if (this.#linkUp) this.#tellCarrier()
    for (const queue of this.#p.queues) queue.fail(error)
    this.#p.control?.fail(error)
    for (const iterator of this.#iterators) {
      iterator.end(error instanceof VifClosedError ? undefined : { error })
    }
    this.#iterators.clear()
  }

  #tellCarrier(): void {
    for (const listener of this.#carrierListeners) listener(this.carrier)
  }
}
