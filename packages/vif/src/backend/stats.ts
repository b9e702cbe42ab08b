/**
 * Statistics of a card since it was first offered, kept over reconnects. Each thread that serves
 * its queues counts in memory of its own: see `Counters`.
 */
import { Counters } from '@xenkit/backend'

/** Index of each number in a thread's memory. */
export const VifCount = {
  FRAMES_SENT: 0,
  BYTES_SENT: 1,
  /** Frames of the guest that broke the protocol's rules or whose data couldn't be copied. */
  SEND_ERRORS: 2,
  /** Frames of the guest that were dropped by a rule: its filter's or its link's. */
  SEND_DROPS: 3,
  FRAMES_RECEIVED: 4,
  BYTES_RECEIVED: 5,
  /** Frames for the guest whose data couldn't be copied to it. */
  RECEIVE_ERRORS: 6,
  /** Frames for the guest that were dropped: it posted no buffers in time, say. */
  RECEIVE_DROPS: 7,
} as const

/** An index: a value of the constant `VifCount`. */
export type VifCount = (typeof VifCount)[keyof typeof VifCount]

const NUMBERS = Object.keys(VifCount).length

/** Statistics of a card. Its members change as it is used; copy the object for a snapshot. */
export interface VifStats {
  /** Frames that the guest has sent. A segment of up to 64 KiB counts once. */
  readonly framesSent: number
  readonly bytesSent: number
  readonly sendErrors: number
  readonly sendDrops: number
  /** Frames that were delivered to the guest. */
  readonly framesReceived: number
  readonly bytesReceived: number
  readonly receiveErrors: number
  readonly receiveDrops: number
  /** Queues in use, 0 while the card isn't connected. */
  readonly queues: number
}

/** Counts the frames of one thread. */
export class VifCounters {
  readonly #numbers: Float64Array

  /** @param numbers the array in which this thread counts, from `Counters` */
  constructor(numbers: Float64Array) {
    this.#numbers = numbers
  }

  /** Adds to a number. @param change default 1 */
  add(at: VifCount, change = 1): void {
    this.#numbers[at] = (this.#numbers[at] ?? 0) + change
  }
}

/** A card's statistics: the sums over all threads that serve it. */
export class CardCounters {
  readonly #counters = new Counters(NUMBERS)
  /** The server's own thread counts here. */
  readonly own = new VifCounters(this.#counters.own)
  queues = 0

  /** The statistics now. */
  get stats(): VifStats {
    const sum = (at: VifCount): number => this.#counters.sum(at)
    return {
      framesSent: sum(VifCount.FRAMES_SENT),
      bytesSent: sum(VifCount.BYTES_SENT),
      sendErrors: sum(VifCount.SEND_ERRORS),
      sendDrops: sum(VifCount.SEND_DROPS),
      framesReceived: sum(VifCount.FRAMES_RECEIVED),
      bytesReceived: sum(VifCount.BYTES_RECEIVED),
      receiveErrors: sum(VifCount.RECEIVE_ERRORS),
      receiveDrops: sum(VifCount.RECEIVE_DROPS),
      queues: this.queues,
    }
  }
}
