/**
 * A ring of 32 slots that is refilled after each batch: the backend's work on a ring, without a
 * guest or a disk.
 */
import { BackRing } from '@xenkit/ring'
import { BLKIF_OP, RING_OFFSET, XEN_PAGE_SIZE, blkif, sring } from '@xenkit/wire'

const BATCH = 32

export class RingBatches {
  readonly #ring: BackRing
  readonly #requests: Uint8Array
  /** Requests as a guest writes them. They are copied over the responses of the last batch. */
  readonly #template: Uint8Array
  readonly #words: Int32Array
  readonly #image: Int32Array

  /** @param segments number of segments of each request, 1..11 */
  constructor(segments: number) {
    const { request, slotSize } = blkif.x86_64
    const bytes = new Uint8Array(XEN_PAGE_SIZE)
    this.#ring = BackRing.attach({ bytes, slotSize })
    this.#requests = bytes.subarray(RING_OFFSET, RING_OFFSET + BATCH * slotSize)
    this.#template = new Uint8Array(BATCH * slotSize)
    this.#words = new Int32Array(bytes.buffer)
    this.#image = new Int32Array(this.#ring.image)
    const view = new DataView(this.#template.buffer)
    for (let slot = 0; slot < BATCH; slot++) {
      const at = slot * slotSize
      view.setUint8(at, BLKIF_OP.READ)
      view.setUint8(at + request.at.nr_segments, segments)
      view.setBigUint64(at + request.at.id, BigInt(slot), true)
      view.setBigUint64(at + request.at.sector_number, BigInt(slot * 8), true)
    }
  }

  /** Fills the ring `batches` times and serves none of the requests. */
  fill(batches: number): void {
    for (let i = 0; i < batches; i++) this.#fill()
  }

  /** Fills the ring `batches` times, and takes and answers the requests each time. */
  serve(batches: number): void {
    for (let i = 0; i < batches; i++) {
      this.#fill()
      this.#serve()
    }
  }

  #fill(): void {
    this.#requests.set(this.#template)
    this.#words[0] = ((this.#words[sring.at.req_prod / 4] ?? 0) + BATCH) | 0
  }

  #serve(): void {
    const ring = this.#ring
    const words = this.#words
    const image = this.#image
    const count = ring.drain(BATCH)
    if (count !== BATCH) throw new Error(`the ring gave ${count} requests`)
    for (let i = 0; i < count; i++) {
      const from = ring.messageAt(i) >> 2
      const to = ring.reserveResponse() >> 2
      words[to] = image[from + 2] ?? 0
      words[to + 1] = image[from + 3] ?? 0
      words[to + 2] = (image[from] ?? 0) & 0xff
      words[to + 3] = 0
    }
    ring.publish()
    if (ring.finalCheck()) throw new Error('the ring holds more than was put into it')
  }
}
