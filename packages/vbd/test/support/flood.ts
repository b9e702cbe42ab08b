/**
 * Guests that send requests without a pause, as if each had a processor of its own: whenever one
 * gets an answer, it has sent new requests before the backend continues. Work of the backend is
 * counted, so no clock is needed.
 */
import type { SimDomain } from '@xenkit/sim'
import { RING_OFFSET } from '@xenkit/wire'
import { RawFrontend, type RawFrontendOptions, type RawRequest } from './raw-frontend.ts'

export interface FlooderOptions extends RawFrontendOptions {
  readonly disks: readonly string[]
  readonly request: RawRequest
  /** Work of the request in a turn: 1, plus 1 for each page. */
  readonly work: number
}

/** A guest that fills its rings with one request, over and over. */
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

  /**
   * Takes all answers and fills all rings again. Also sends events that the backend didn't ask for.
   */
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

  /** Takes all answers and sends no more requests. */
  rest(): void {
    this.#take()
  }

  /** Work that the backend has done for this guest. */
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
