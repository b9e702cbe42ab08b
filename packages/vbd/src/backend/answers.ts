/** Writes responses into a ring's slots. */
import type { BackRing } from '@xenkit/ring'
import type { BlkifLayout } from '@xenkit/wire'
import type { Requests } from './requests.ts'

export class Answers {
  readonly #ring: BackRing
  readonly #requests: Requests
  readonly #words: Uint32Array
  /** Positions within a response, and its length, in words. */
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

  /** Takes the next slot for a row's answer. It is seen once the ring is published. */
  write(row: number): void {
    const { idLow, idHigh, operation, status } = this.#requests
    const word = this.#ring.reserveResponse() >> 2
    this.#words[word + this.#id] = idLow[row] ?? 0
    this.#words[word + this.#id + 1] = idHigh[row] ?? 0
    // operation@8, a byte of padding, status@10; the tail of the 64-bit layouts is padding too. All
    // of it is written, so that nothing of an earlier slot is taken for part of the answer
    // (XSA-216).
    this.#words[word + this.#operation] =
      (operation[row] ?? 0) | (((status[row] ?? 0) & 0xffff) << 16)
    for (let pad = this.#operation + 1; pad < this.#length; pad++) this.#words[word + pad] = 0
  }
}
