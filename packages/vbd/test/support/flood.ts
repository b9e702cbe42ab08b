/**
 * Guests of which some never stop asking, as if each had a processor of its own: whenever the
 * backend answers one, it has asked for more before the backend goes on. What the backend does is
 * counted, so no clock is needed.
 */
import type { EvtchnBinding, Hypervisor } from '@xenkit/hypervisor'
import type { SimDomain } from '@xenkit/sim'
import { RING_OFFSET } from '@xenkit/wire'
import { hooked } from '../../../backend/test/support/hooked-hypervisor.ts'
import { RawFrontend, type RawFrontendOptions, type RawRequest } from './raw-frontend.ts'

/**
 * Backends see the guests' side of each answer as it comes: by the event that every one of these
 * guests asks for.
 */
export class Crowd {
  readonly #guests = new Map<number, () => void>()

  /** What happens when the backend has answered a guest and tells it. */
  onAnswer(domid: number, run: () => void): void {
    this.#guests.set(domid, run)
  }

  readonly through = (dom0: Hypervisor): Hypervisor =>
    hooked(dom0, { bind: (bind, o, onEvent) => this.#watch(o.domid, bind(o, onEvent)) })

  #watch(domid: number, binding: EvtchnBinding): EvtchnBinding {
    const notify = binding.notify.bind(binding)
    binding.notify = () => {
      notify()
      this.#guests.get(domid)?.()
    }
    return binding
  }
}

export interface FlooderOptions extends RawFrontendOptions {
  readonly disks: readonly string[]
  readonly request: RawRequest
  /** What the request is of a turn: 1, and 1 for each page. */
  readonly work: number
}

/** A guest whose rings are full of one request, over and over. */
export class Flooder implements AsyncDisposable {
  #answered = 0
  readonly #work: number
  readonly #fronts: readonly RawFrontend[]
  readonly #slot: Uint8Array

  private constructor(fronts: readonly RawFrontend[], { request, work }: FlooderOptions) {
    this.#fronts = fronts
    this.#work = work
    const [front] = fronts
    if (!front) throw new RangeError('no disk')
    front.put(request)
    this.#slot = front.ring.bytes.slice(RING_OFFSET, RING_OFFSET + front.ring.slotSize)
  }

  static async open(guest: SimDomain, o: FlooderOptions): Promise<Flooder> {
    const fronts = await Promise.all(o.disks.map((vdev) => RawFrontend.open(guest, { ...o, vdev })))
    await Promise.all(fronts.map((front) => front.device.connected()))
    return new Flooder(fronts, o)
  }

  /** Takes all answers, and fills all rings again. Sends events that nobody asked for, too. */
  fill(): void {
    this.#take()
    for (const front of this.#fronts) {
      for (const { ring, bytes, channel } of front.rings) {
        while (ring.free > 0) bytes.set(this.#slot, ring.reserveRequest())
        ring.publish()
        channel.notify()
      }
    }
  }

  /** Takes all answers, and asks for no more. */
  rest(): void {
    this.#take()
  }

  /** What the backend has done for it. */
  get done(): number {
    return this.#answered * this.#work
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.#fronts.map((front) => front[Symbol.asyncDispose]()))
  }

  #take(): void {
    for (const front of this.#fronts) {
      for (const { ring } of front.rings) {
        for (let more = true; more; more = ring.finalCheck()) {
          this.#answered += ring.drain(ring.size)
        }
      }
    }
  }
}
