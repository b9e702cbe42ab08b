/** `faultLink`: a bad cable, to test guests and protocols with. */
import { Checksum, Frames, type Link, type LinkEnd, NO_OFFLOADS } from '@xenkit/frames'
import { expectOdds, randomNumbers } from '@xenkit/hypervisor'
import { Batches } from './batches.ts'
import { type FrameDirection, layerOn } from './layer.ts'

/** A frame, as the plans of `faultLink` see it. */
export interface PlannedFrame {
  readonly direction: FrameDirection
  /** Bytes of the frame. */
  readonly bytes: number
}

/** Faults of one frame. If several are given, all of them happen. */
export interface FrameFault {
  /** The frame is lost. */
  readonly isLost?: boolean
  /** Number of a bit that is inverted, modulo the frame's bits. */
  readonly flippedBit?: number
  /** Further copies that arrive with it. */
  readonly copies?: number
  /** Milliseconds by which it arrives late, and those behind it. */
  readonly delayMs?: number
  /** Frames of its direction that overtake it. If fewer come, it waits for 100 ms at most. */
  readonly overtakenBy?: number
}

/** Longest wait of a frame for others that overtake it. */
const OVERTAKING_MS = 100
/** Most bytes of frames that are late in one direction. Further late frames are lost. */
const MAX_HELD_BYTES = 16 * 1024 ** 2
/** What a late frame takes beside its bytes, about. */
const HELD_OVERHEAD = 512

/**
 * Lets frames be lost, late, in the wrong order, doubled or damaged as planned. The link takes
 * complete frames only, so that a fault hits what would be one frame on a wire, and a checksum
 * shows the damage. Frames that are late are copied; at most 16 MiB wait in each direction.
 * @param plan called for each frame, in order: returns its faults, or undefined for none. If it
 *   throws, the frame is lost and its card fails.
 */
export function faultLink(base: Link, plan: (frame: PlannedFrame) => FrameFault | undefined): Link {
  return layerOn(base, (card) => {
    const lines = { 'from-card': new Line(), 'to-card': new Line() }
    const planned = (frame: PlannedFrame): FrameFault => {
      try {
        return plan(frame) ?? {}
      } catch (error) {
        card.fail(error)
        return { isLost: true }
      }
    }
    return {
      offloads: NO_OFFLOADS,
      pass(frames, next, direction) {
        const line = lines[direction]
        for (let i = 0; i < frames.count; i++) {
          line.pass(frames, i, next, planned({ direction, bytes: frames.length[i] ?? 0 }))
        }
      },
      close() {
        lines['from-card'].close()
        lines['to-card'].close()
      },
    }
  })
}

/** A frame that is late, in a batch of its own. */
interface LateFrame {
  readonly frame: Frames
  /** When it is sent at the latest, in ms. */
  readonly due: number
  /** Frames that are still to overtake it. */
  overtaking: number
}

/** One direction of a cable. Frames are sent one by one. */
class Line {
  /** Frames that are delayed, and those behind them, in order. */
  readonly #delayed: LateFrame[] = []
  /** Frames that others are to overtake. */
  readonly #overtaken: LateFrame[] = []
  readonly #batches = new Batches()
  #heldBytes = 0
  #next: LinkEnd | undefined
  #timer: NodeJS.Timeout | undefined
  #wakeAt = Infinity
  #isClosed = false

  pass(frames: Frames, index: number, next: LinkEnd, fault: FrameFault): void {
    const { isLost = false, flippedBit, copies = 0, delayMs = 0, overtakenBy = 0 } = fault
    this.#next = next
    if (isLost) return
    const frame = this.#batches.take(frames.memory)
    frame.addFrom(frames, index)
    if (flippedBit !== undefined) damage(frame, flippedBit)
    for (let i = 0; i <= copies; i++) {
      const before = [...this.#overtaken]
      const now = performance.now()
      if (overtakenBy > 0) this.#hold(this.#overtaken, frame, now + OVERTAKING_MS, overtakenBy)
      else this.#sendAt(frame, now + delayMs)
      for (const late of before) if (--late.overtaking === 0) this.#catchUp(late)
    }
    this.#batches.give(frame)
    this.#arm()
  }

  close(): void {
    this.#isClosed = true
    clearTimeout(this.#timer)
  }

  /** Sends a frame, after those that are delayed. */
  #sendAt(frame: Frames, due: number): void {
    const isLate = this.#delayed.length > 0 || due > performance.now()
    if (isLate) this.#hold(this.#delayed, frame, due, 0)
    else this.#send(frame)
  }

  /** Sends a frame that others have overtaken. */
  #catchUp(late: LateFrame): void {
    const at = this.#overtaken.indexOf(late)
    if (at < 0) return
    this.#overtaken.splice(at, 1)
    this.#heldBytes -= bytesOf(late.frame)
    this.#sendAt(late.frame, 0)
  }

  #hold(list: LateFrame[], frame: Frames, due: number, overtaking: number): void {
    const bytes = bytesOf(frame)
    if (this.#heldBytes + bytes > MAX_HELD_BYTES) return
    this.#heldBytes += bytes
    list.push({ frame: copyOf(frame), due, overtaking })
  }

  #send(frame: Frames): void {
    if (!this.#isClosed) this.#next?.send(frame)
  }

  #wake(): void {
    this.#timer = undefined
    this.#wakeAt = Infinity
    const now = performance.now()
    for (const late of this.#overtaken.filter(({ due }) => due <= now)) this.#catchUp(late)
    for (;;) {
      const [first] = this.#delayed
      if (!first || first.due > now) break
      this.#delayed.shift()
      this.#heldBytes -= bytesOf(first.frame)
      this.#send(first.frame)
    }
    this.#arm()
  }

  #arm(): void {
    const dues = [this.#delayed[0], ...this.#overtaken].map((late) => late?.due ?? Infinity)
    const due = Math.min(...dues)
    if (due >= this.#wakeAt || this.#isClosed) return
    clearTimeout(this.#timer)
    this.#wakeAt = due
    this.#timer = setTimeout(() => this.#wake(), Math.ceil(due - performance.now()))
  }
}

const bytesOf = ({ length }: Frames): number => (length[0] ?? 0) + HELD_OVERHEAD

/** A copy of a batch of one frame. */
function copyOf(frame: Frames): Frames {
  const copy = new Frames(1)
  copy.reset(frame.bytes(0).slice())
  copy.addFrom(frame, 0)
  copy.start[0] = 0
  return copy
}

/** Inverts a bit of a batch of one frame, in memory of its own. */
function damage(frame: Frames, bit: number): void {
  const memory = frame.bytes(0).slice()
  const at = (bit >> 3) % memory.length
  memory[at] = (memory[at] ?? 0) ^ (1 << (bit & 7))
  frame.memory = memory
  frame.start[0] = 0
  // Whoever gets it has to find out by itself.
  frame.checksum[0] = Checksum.COMPLETE
}

/** Odds of the faults that `randomFrameFaults` plans, each 0..1 and 0 by default. */
export interface FrameFaultOdds {
  /** 1..2^32-1. The same seed and frames get the same faults. */
  readonly seed: number
  /** Odds that a frame is lost. */
  readonly loss?: number
  /** Odds that a frame has a wrong bit. */
  readonly corrupt?: number
  /** Odds that a frame arrives twice. */
  readonly duplicate?: number
  /** Odds that a frame is late, by up to `longestDelayMs`. */
  readonly delay?: number
  /** Longest delay of a frame in milliseconds, default 100. */
  readonly longestDelayMs?: number
  /** Odds that one to three others overtake a frame. */
  readonly reorder?: number
}

/**
 * Plans random faults, for `faultLink`.
 * @throws RangeError for odds outside 0..1, or seed 0
 */
export function randomFrameFaults({
  seed,
  longestDelayMs = 100,
  ...o
}: FrameFaultOdds): (frame: PlannedFrame) => FrameFault {
  const { loss = 0, corrupt = 0, duplicate = 0, delay = 0, reorder = 0 } = o
  expectOdds({ loss, corrupt, duplicate, delay, reorder })
  const random = randomNumbers(seed)
  return ({ bytes }) => {
    // Each frame draws the same numbers, so that the odds of one fault don't move another.
    const [lost, wrong, twice, late, overtaken] = [random(), random(), random(), random(), random()]
    const [bit, wait, others] = [random(), random(), random()]
    return {
      isLost: lost < loss,
      ...(wrong < corrupt ? { flippedBit: Math.floor(bit * bytes * 8) } : {}),
      ...(twice < duplicate ? { copies: 1 } : {}),
      ...(late < delay ? { delayMs: wait * longestDelayMs } : {}),
      ...(overtaken < reorder ? { overtakenBy: 1 + Math.floor(others * 3) } : {}),
    }
  }
}
