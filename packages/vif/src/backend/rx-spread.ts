/** `RxSpread`: sends a link's frames to a card's queues. */
import { Frames, type LinkEnd } from '@xenkit/frames'
import type { HashConfig } from './hash-config.ts'
import type { MulticastFilter } from './multicast-filter.ts'
import { type FrameHashes, NO_HASH } from './rx-packets.ts'

/** Most frames of a batch for one queue. */
const BATCH = 64

/** Takes frames for one queue. */
export interface RxQueueEnd {
  send(frames: Frames, hashes?: FrameHashes): void
}

/** A batch for one queue. */
class Lane {
  readonly frames = new Frames(BATCH)
  readonly hashes = { type: new Uint8Array(BATCH), value: new Uint32Array(BATCH) }
}

/**
 * Spreads frames over queues by their hashes, so that a flow's frames stay in order. A queue gets
 * the hashes too, if the guest has configured them.
 */
export class RxSpread {
  readonly #hash: HashConfig
  readonly #filter: MulticastFilter
  readonly #queues: readonly RxQueueEnd[]
  /** Batches of calls that have ended: a queue may make the link send more before it returns. */
  readonly #free: (readonly Lane[])[] = []

  /** @param queues as many as `hash` chooses from */
  constructor(hash: HashConfig, filter: MulticastFilter, queues: readonly RxQueueEnd[]) {
    this.#hash = hash
    this.#filter = filter
    this.#queues = queues
  }

  /** Sends each frame that passes the filter to its queue. A queue's frames stay in order. */
  send(frames: Frames): void {
    if (this.#queues.length === 1 && !this.#hash.isConfigured && !this.#filter.enabled) {
      this.#queues[0]?.send(frames)
      return
    }
    const lanes = this.#free.pop() ?? this.#queues.map(() => new Lane())
    for (const lane of lanes) lane.frames.reset(frames.memory)
    for (let i = 0; i < frames.count; i++) {
      if (!this.#filter.passes(frames.memory, frames.start[i] ?? 0)) continue
      const queue = this.#hash.queueOf(frames, i)
      const lane = lanes[queue]
      if (!lane) throw new RangeError(`there is no queue ${queue}`)
      const { type, value } = this.#hash
      const at = lane.frames.count
      lane.frames.addFrom(frames, i)
      lane.hashes.type[at] = type === 0 ? NO_HASH : 31 - Math.clz32(type)
      lane.hashes.value[at] = value
      if (at + 1 === BATCH) this.#flush(lane, queue)
    }
    for (const [queue, lane] of lanes.entries()) this.#flush(lane, queue)
    this.#free.push(lanes)
  }

  #flush({ frames, hashes }: Lane, queue: number): void {
    if (frames.count > 0) this.#queues[queue]?.send(frames, hashes)
    frames.reset()
  }
}

/**
 * Pauses a link while any queue of its card asks for that.
 * @returns what each queue calls, in turns with true and false
 */
export function pauseTogether(link: Pick<LinkEnd, 'pause'>): (paused: boolean) => void {
  let queues = 0
  return (paused) => {
    queues += paused ? 1 : -1
    if (queues === (paused ? 1 : 0)) link.pause?.(paused)
  }
}
