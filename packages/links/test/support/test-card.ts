/** A card for tests: it keeps what it gets. */
import {
  ALL_OFFLOADS,
  type Card,
  type FrameMemory,
  type Frames,
  type Link,
  type Offloads,
  type PluggedLink,
} from '@xenkit/frames'
import { batchOf, mac } from './frames.ts'

export interface TestCardOptions {
  readonly name?: string
  readonly mac?: string
  readonly offloads?: Offloads
  readonly memory?: FrameMemory
  /** Called with frames before they are kept. */
  readonly onFrames?: (frames: Frames) => void
}

export class TestCard implements Card {
  readonly name: string
  readonly domid = 1
  readonly devid = 0
  readonly mac: Uint8Array | undefined
  readonly offloads: Offloads
  readonly memory?: FrameMemory
  /** Frames that came, as copies. */
  readonly got: number[][] = []
  /** Carriers that the link told. */
  readonly carriers: boolean[] = []
  readonly failures: unknown[] = []
  readonly #onFrames: ((frames: Frames) => void) | undefined
  #link: PluggedLink | undefined

  constructor(o: TestCardOptions = {}) {
    this.name = o.name ?? 'vif1.0'
    this.mac = o.mac === undefined ? undefined : Uint8Array.from(mac(o.mac))
    this.offloads = o.offloads ?? ALL_OFFLOADS
    this.#onFrames = o.onFrames
    if (o.memory) this.memory = o.memory
  }

  get link(): PluggedLink {
    if (!this.#link) throw new Error('the card is not plugged in')
    return this.#link
  }

  send(frames: Frames): void {
    this.#onFrames?.(frames)
    for (let i = 0; i < frames.count; i++) this.got.push([...frames.bytes(i)])
  }

  carrier(up: boolean): void {
    this.carriers.push(up)
  }

  fail(error: unknown): void {
    this.failures.push(error)
  }

  /** Sends frames to the link. */
  transmit(...frames: readonly (readonly number[])[]): void {
    this.link.send(batchOf(...frames))
  }

  /** Returns and forgets what came. */
  take(): number[][] {
    return this.got.splice(0)
  }

  async plugInto(link: Link): Promise<this> {
    this.#link = await link.plug(this)
    this.#link.carrier?.(true)
    return this
  }
}
