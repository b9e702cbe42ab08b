/** Writes responses into a ring's slots. */
import type { BackRing } from '@xenkit/ring'
import type { BlkifLayout } from '@xenkit/wire'
import type { Requests } from './requests.ts'

export class Answers {
  readonly #ring: BackRing
  readonly #requests: Requests
  readonly #words: Uint32Array
  /** Offsets of a response's fields, and its length, in 32-bit words. */
  readonly #id: number
  readonly #operation: number
  readonly #length: number

  constructor(o: {
    readonly ring: BackRing
    readonly requests: Requests
    readonly layout: BlkifLayout
  }) {
    const { bytes } = o.ring
    const { response } = o.layout
    this.#ring = o.ring
    this.#requests = o.requests
    this.#words = new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 4)
    this.#id = response.at.id / 4
    this.#operation = response.at.operation / 4
    this.#length = response.size / 4
  }

  /** Writes a row's response into the next slot. The guest sees it once the ring is published. */
  write(row: number): void {
    const { idLow, idHigh, operation, status } = this.#requests
    const word = this.#ring.reserveResponse() >> 2
    this.#words[word + this.#id] = idLow[row] ?? 0
    this.#words[word + this.#id + 1] = idHigh[row] ?? 0
    // Layout: operation at byte 8, a byte of padding, status at 10; 64-bit layouts end in padding.
    // Padding is zeroed, so that no stale bytes reach the guest (XSA-216).
    this.#words[word + this.#operation] =
      (operation[row] ?? 0) | (((status[row] ?? 0) & 0xffff) << 16)
    for (let pad = this.#operation + 1; pad < this.#length; pad++) this.#words[word + pad] = 0
  }
}
