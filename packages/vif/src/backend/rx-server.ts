/**
 * Delivers a link's frames to one queue of a guest. They are copied from where they lie straight
 * into buffers that the guest has posted. Frames wait in a bounded queue when there are too few
 * buffers, or when the guest's turn is used up.
 *
 * A guest that posts no buffers is handled as by Linux's netback. Frames are dropped after 10 s, or
 * after 30 ms if the guest doesn't notify of buffers (no feature-rx-notify). If frames have waited
 * for 60 s and the guest has no buffer posted, the queue is stalled, until it has one.
 */
import type { PagePool, ServedRing } from '@xenkit/backend'
import type { Frames } from '@xenkit/frames'
import type { GuestTurn } from '@xenkit/hypervisor'
import { type FrameHashes, RxPackets, type RxPacketsParts } from './rx-packets.ts'
import { RxQueue } from './rx-queue.ts'
import { VifCount } from './stats.ts'

/** Longest time that a frame waits, in milliseconds. */
const WAIT_MS = 10_000
/** The same for a guest that doesn't notify of buffers. */
const WAIT_UNNOTIFIED_MS = 30
/** Time without a buffer, while frames wait, after which a queue is stalled. In milliseconds. */
const STALL_MS = 60_000

/** Parts of an `RxServer`. */
export interface RxServerParts extends RxPacketsParts {
  /** The guest's turn, which all its rings on this event loop share: see `openGuestTurn`. */
  readonly guestTurn: GuestTurn
  /** Memory for frames that wait, in extents of RX_EXTENTS. Each server has a pool of its own. */
  readonly pool: PagePool
  /** Asks the link to hold frames back, or to go on. */
  readonly pause: (paused: boolean) => void
  /** Called when the guest has stopped to post buffers, and when it posts them again. */
  readonly stalled: (stalled: boolean) => void
  /**
   * Called when the ring has stopped: the guest broke its rules, or the hypervisor refused a call.
   */
  readonly failed: (error: unknown) => void
}

/**
 * Delivers frames to the receive ring of one queue. Call `turn` on every event, and `settle` before
 * the ring is unmapped. Errors aren't thrown: they go to `failed`.
 */
export class RxServer implements ServedRing {
  /** Copies are done when a call returns: no memory is in use between calls. */
  readonly inFlight = 0
  readonly #p: RxServerParts
  readonly #packets: RxPackets
  readonly #queue: RxQueue
  readonly #waitMs: number
  #stopped = false
  #turnPlanned = false
  #paused = false
  #stalled = false
  /** When frames began to wait without a posted buffer, in milliseconds. */
  #starvedSince: number | undefined
  #timer: ReturnType<typeof setTimeout> | undefined
  // Functions that are passed often, created once.
  readonly #serve = (): void => {
    if (this.#stopped) return
    try {
      this.#deliverQueued()
      this.#finish()
      if (this.#stalled && this.#packets.buffers.has(1)) this.#stall(false)
      if (!this.#queue.oldest) this.#pauseIf(false)
    } catch (error) {
      // Don't throw: other rings wait for their turn behind this one.
      this.stop(error)
    }
  }
  readonly #plannedTurn = (): void => {
    this.#turnPlanned = false
    this.#serve()
  }
  readonly #timePassed = (): void => {
    this.#timer = undefined
    if (!this.#queue.oldest) this.#queue.trim()
    this.#serve()
  }

  constructor(parts: RxServerParts) {
    this.#p = parts
    this.#packets = new RxPackets(parts)
    this.#queue = new RxQueue(parts)
    this.#waitMs = parts.features.rxNotify ? WAIT_MS : WAIT_UNNOTIFIED_MS
  }

  /** Changes how many bytes are left free before each packet, 0..32767. */
  set headroom(bytes: number) {
    this.#packets.headroom = bytes
  }

  /**
   * Delivers frames, or queues them behind those that wait already. Those that the guest doesn't
   * take, and those for which there is no room, are dropped and counted.
   * @param hashes of these frames, for a guest that has set up hashing; default: none
   */
  send(frames: Frames, hashes?: FrameHashes): void {
    try {
      if (this.#stopped || (this.#stalled && !this.#packets.buffers.has(1))) {
        return this.#drop(frames.count)
      }
      this.#deliverQueued()
      const isArena = frames.memory.buffer === this.#p.memory.buffer
      const mayPass = isArena && !this.#queue.oldest
      const first = mayPass ? this.#deliver(frames, 0, hashes) : 0
      if (first < frames.count) {
        this.#enqueue(frames, first, hashes)
        this.#deliverQueued()
      }
      this.#finish()
      // The link goes on later: it may be sending this batch in the middle of something.
      if (this.#stalled || (this.#paused && !this.#queue.oldest)) queueMicrotask(this.#serve)
    } catch (error) {
      this.stop(error)
    }
  }

  /** Delivers frames that wait. Call it on every event. */
  turn(): void {
    // On a channel that two rings share, most events are for the other one.
    if (!this.#queue.oldest && !this.#stalled) return
    this.#p.guestTurn.woken()
    if (!this.#turnPlanned) this.#serve()
  }

  /** Stops, and drops frames that wait. Unused buffers need no response. */
  async settle(): Promise<void> {
    this.abandon()
  }

  /** Stops at once. */
  abandon(): void {
    if (this.#stopped) return
    this.#stopped = true
    clearTimeout(this.#timer)
    this.#drop(this.#queue.clear())
    try {
      this.#pauseIf(false)
    } catch (error) {
      this.#p.failed(error)
    }
  }

  /** As `abandon`, and calls `failed` with the error. */
  stop(error: unknown): void {
    this.abandon()
    this.#p.failed(error)
  }

  #deliverQueued(): void {
    for (let chunk; !this.#turnPlanned && (chunk = this.#queue.oldest) !== undefined;) {
      chunk.next = this.#deliver(chunk.frames, chunk.next, chunk.hashes)
      if (chunk.next < chunk.frames.count) return
      this.#queue.shift()
    }
  }

  /**
   * Puts frames into posted buffers, as long as these and the guest's turn last.
   * @param first index of the first frame
   * @returns index of the first frame that has to wait
   */
  #deliver(frames: Frames, first: number, hashes?: FrameHashes): number {
    const { guestTurn } = this.#p
    const packets = this.#packets
    const budget = guestTurn.left
    let left = budget
    let i = first
    for (; i < frames.count; i++) {
      const buffers = packets.buffersFor(frames, i, hashes)
      if (buffers === 0) {
        this.#drop(1)
        continue
      }
      if (left < 1 + buffers) {
        this.#waitForTurn()
        break
      }
      if (!packets.buffers.has(buffers)) break
      packets.put(frames, i, hashes)
      left -= 1 + buffers
    }
    guestTurn.spend(budget - left)
    return i
  }

  #waitForTurn(): void {
    if (this.#turnPlanned) return
    this.#turnPlanned = true
    this.#p.guestTurn.wait(this.#plannedTurn)
  }

  #enqueue(frames: Frames, first: number, hashes?: FrameHashes): void {
    const now = performance.now()
    for (let i = first; i < frames.count; i++) {
      const taken = this.#packets.buffersFor(frames, i, hashes) > 0
      if (!taken || !this.#queue.add(frames, i, now, hashes)) this.#drop(1)
    }
  }

  /** Ends a pass: copies and publishes, and checks the frames that still wait. */
  #finish(): void {
    if (this.#packets.deliver() > 0) this.#starvedSince = undefined
    this.#queue.release()
    if (this.#queue.oldest) this.#watch()
    else this.#starvedSince = undefined
    if (this.#queue.isHalfFull) this.#pauseIf(true)
  }

  /** Checks frames that wait, and sets the timer for the next check. */
  #watch(): void {
    const now = performance.now()
    let checkIn = this.#dropExpired(now)
    if (this.#packets.buffers.count > 0 || !this.#queue.oldest) this.#starvedSince = undefined
    else this.#starvedSince ??= now
    if (this.#p.features.rxNotify && this.#starvedSince !== undefined && !this.#stalled) {
      const stallsIn = this.#starvedSince + STALL_MS - now
      if (stallsIn <= 0) this.#stall(true)
      else checkIn = Math.min(checkIn, stallsIn)
    }
    // The timer doesn't keep the process alive.
    this.#timer ??= setTimeout(this.#timePassed, checkIn).unref()
  }

  /** @returns in how many milliseconds the oldest frame expires */
  #dropExpired(now: number): number {
    for (let chunk; (chunk = this.#queue.oldest) !== undefined; this.#queue.shift()) {
      for (; chunk.next < chunk.frames.count; chunk.next++) {
        const waited = (now - (chunk.since[chunk.next] ?? 0)) >>> 0
        if (waited < this.#waitMs) return this.#waitMs - waited
        this.#drop(1)
      }
    }
    this.#queue.release()
    return this.#waitMs
  }

  #stall(stalled: boolean): void {
    this.#stalled = stalled
    this.#starvedSince = undefined
    this.#p.stalled(stalled)
  }

  #pauseIf(paused: boolean): void {
    if (paused === this.#paused) return
    this.#paused = paused
    this.#p.pause(paused)
  }

  #drop(count: number): void {
    if (count > 0) this.#p.counters.add(VifCount.RECEIVE_DROPS, count)
  }
}
