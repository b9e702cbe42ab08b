/** `rateLink`: limits how many bytes a card sends and receives, by token buckets. */
import type { Frames, Link, LinkEnd } from '@xenkit/frames'
import { expectInteger } from '@xenkit/hypervisor'
import { Batches } from './batches.ts'
import { FrameQueue } from './frame-queue.ts'
import { layerOn } from './layer.ts'

/** Limit of one direction. */
export interface LinkRate {
  /** Bytes of frames per second: positive. */
  readonly bytesPerSecond: number
  /** Most bytes at once after a pause: positive, default a tenth of `bytesPerSecond`. */
  readonly burst?: number
  /**
   * Most bytes of frames that wait, 0..2^30, default 262,144. Further frames are dropped. With 0,
   * all frames above the limit are.
   */
  readonly queueBytes?: number
}

/** Limits of each card of a `rateLink`. A direction without a limit passes everything. */
export interface RateLimits {
  /** What the card's guest sends. */
  readonly fromCard?: LinkRate
  /** What it receives. */
  readonly toCard?: LinkRate
}

/** Numbers of frames in one direction, of all cards. */
export interface RateStats {
  /** Frames that were sent on. */
  passed: number
  /** Frames that waited. */
  held: number
  /** Frames that found no room to wait. */
  dropped: number
}

/** A link with limits. */
export interface RateLink extends Link {
  readonly fromCard: Readonly<RateStats>
  readonly toCard: Readonly<RateStats>
  /** Changes the limits of all cards. @throws RangeError for a limit that isn't valid */
  change(limits: RateLimits): void
}

const DEFAULT_QUEUE_BYTES = 256 * 1024
const MAX_QUEUE_BYTES = 2 ** 30
/** Longest time-out of Node, in ms. */
const MAX_TIMEOUT = 2 ** 31 - 1

/**
 * Limits the bytes per second of each card. A frame passes if the bucket isn't empty, so a frame
 * may be longer than the burst: the next ones wait for longer then.
 * @throws RangeError for a limit that isn't valid
 */
export function rateLink(base: Link, limits: RateLimits): RateLink {
  const fromCard = new DirectionLimit(checked('fromCard', limits.fromCard))
  const toCard = new DirectionLimit(checked('toCard', limits.toCard))
  const link = layerOn(base, () => {
    const shapers = { 'from-card': new Shaper(fromCard), 'to-card': new Shaper(toCard) }
    return {
      pass: (frames, next, direction) => shapers[direction].pass(frames, next),
      close() {
        shapers['from-card'].close()
        shapers['to-card'].close()
      },
    }
  })
  return {
    plug: (card) => link.plug(card),
    fromCard: fromCard.stats,
    toCard: toCard.stats,
    change(o) {
      const rates = [checked('fromCard', o.fromCard), checked('toCard', o.toCard)] as const
      fromCard.change(rates[0])
      toCard.change(rates[1])
    },
  }
}

/** A limit without defaults, per millisecond. */
interface CheckedRate {
  readonly perMs: number
  readonly burst: number
  readonly queueBytes: number
}

function checked(name: string, rate: LinkRate | undefined): CheckedRate {
  if (!rate) return { perMs: Infinity, burst: Infinity, queueBytes: 0 }
  const { bytesPerSecond, burst = bytesPerSecond / 10, queueBytes = DEFAULT_QUEUE_BYTES } = rate
  for (const [key, value] of Object.entries({ bytesPerSecond, burst })) {
    if (!(value > 0 && value < Infinity)) {
      throw new RangeError(`"${name}.${key}" expected a positive number, got ${value}`)
    }
  }
  expectInteger(`${name}.queueBytes`, queueBytes, 0, MAX_QUEUE_BYTES)
  return { perMs: bytesPerSecond / 1000, burst, queueBytes }
}

/** The limit of one direction, and those who keep to it. */
class DirectionLimit {
  readonly stats: RateStats = { passed: 0, held: 0, dropped: 0 }
  readonly shapers = new Set<Shaper>()
  rate: CheckedRate

  constructor(rate: CheckedRate) {
    this.rate = rate
  }

  change(rate: CheckedRate): void {
    for (const shaper of this.shapers) shaper.fill(performance.now())
    this.rate = rate
    for (const shaper of this.shapers) shaper.drain()
  }
}

/** Keeps one direction of one card to its limit. */
class Shaper {
  readonly #limit: DirectionLimit
  readonly #batches = new Batches()
  #queue = new FrameQueue(0)
  #tokens: number
  #filledAt = performance.now()
  /** Where the waiting frames go. */
  #next: LinkEnd | undefined
  #timer: NodeJS.Timeout | undefined
  #isDraining = false
  #isClosed = false

  constructor(limit: DirectionLimit) {
    this.#limit = limit
    this.#tokens = limit.rate.burst
    limit.shapers.add(this)
  }

  pass(frames: Frames, next: LinkEnd): void {
    this.#next = next
    this.fill(performance.now())
    const batch = this.#batches.take(frames.memory)
    for (let i = 0; i < frames.count; i++) {
      if (this.#queue.count > 0 || !this.#take(frames.length[i] ?? 0)) this.#hold(frames, i)
      else {
        batch.addFrom(frames, i)
        if (batch.count === batch.capacity) this.#send(batch)
      }
    }
    this.#send(batch)
    this.#batches.give(batch)
    this.#arm()
  }

  /** Fills the bucket for the time that has passed. */
  fill(now: number): void {
    const { perMs, burst } = this.#limit.rate
    const passed = now - this.#filledAt
    // No time by no limit would be NaN.
    const tokens = passed > 0 ? passed * perMs : 0
    this.#tokens = Math.min(burst, this.#tokens + tokens)
    this.#filledAt = now
  }

  /** Sends the waiting frames for which there are tokens. */
  drain(): void {
    clearTimeout(this.#timer)
    this.#timer = undefined
    if (this.#isDraining) return
    this.#isDraining = true
    this.fill(performance.now())
    const queue = this.#queue
    const batch = this.#batches.take(queue.memory)
    while (!this.#isClosed) {
      const most = Math.min(queue.count, batch.capacity)
      while (batch.count < most && this.#take(queue.lengthOf(batch.count))) {
        queue.addTo(batch, batch.count)
      }
      const { count } = batch
      if (count === 0) break
      this.#send(batch)
      queue.free(count)
    }
    this.#batches.give(batch)
    this.#isDraining = false
    this.#arm()
  }

  close(): void {
    this.#isClosed = true
    clearTimeout(this.#timer)
    this.#limit.shapers.delete(this)
  }

  #take(bytes: number): boolean {
    if (this.#tokens <= 0 && this.#limit.rate.perMs < Infinity) return false
    this.#tokens -= bytes
    return true
  }

  #hold(frames: Frames, index: number): void {
    const { stats, rate } = this.#limit
    if (this.#queue.count === 0 && this.#queue.memory.length !== rate.queueBytes) {
      this.#queue = new FrameQueue(rate.queueBytes)
    }
    if (this.#queue.push(frames, index)) stats.held++
    else stats.dropped++
  }

  #send(batch: Frames): void {
    const { count } = batch
    if (count > 0) this.#next?.send(batch)
    this.#limit.stats.passed += count
    batch.reset()
  }

  /** Wakes up when there are tokens for the first frame that waits. */
  #arm(): void {
    if (this.#timer || this.#isDraining || this.#isClosed || this.#queue.count === 0) return
    const wait = Math.ceil(-this.#tokens / this.#limit.rate.perMs)
    this.#timer = setTimeout(() => this.drain(), Math.min(Math.max(wait, 1), MAX_TIMEOUT))
  }
}
