/**
 * Packs xenstore messages into one buffer, which is reused. All messages of one tick are then sent
 * by one write.
 */
import { XENSTORE_PAYLOAD_MAX, xsdSockmsg, xsTypeName } from './xs-wire.ts'

const { size: HEADER_SIZE, at } = xsdSockmsg
const INITIAL_SIZE = 4096
/** Bytes. A buffer that a burst of messages has grown beyond this is dropped after use. */
const KEPT_SIZE = 65536
/** Most bytes of UTF-8 per UTF-16 code unit. */
const UTF8_MAX = 3

const encoder = new TextEncoder()

function expectPayload(type: number, len: number): void {
  if (len > XENSTORE_PAYLOAD_MAX) {
    throw new RangeError(
      `payload of ${xsTypeName(type)} expected 0..${XENSTORE_PAYLOAD_MAX} bytes, got ${len} or more`,
    )
  }
}

/** Serialises xenstore messages. */
export class XsPacker {
  #buffer = new Uint8Array(INITIAL_SIZE)
  #view = new DataView(this.#buffer.buffer)
  #length = 0

  /** Bytes packed since the last `take`. */
  get length(): number {
    return this.#length
  }

  /**
   * Packs one message. Its payload is `text` in UTF-8, then `data`.
   * @throws RangeError if the payload exceeds 4096 bytes, or the text has a lone surrogate, which
   *   UTF-8 can't represent; nothing is packed
   */
  append(type: number, reqId: number, txId: number, text: string, data?: Uint8Array): void {
    const start = this.#length
    const dataBytes = data?.length ?? 0
    // Each code unit takes at least one byte, so this check bounds the memory that is reserved
    // next.
    expectPayload(type, text.length + dataBytes)
    if (!text.isWellFormed()) {
      const shown = JSON.stringify(text.slice(0, 64))
      throw new RangeError(
        `payload of ${xsTypeName(type)} expected text without lone surrogates, got ${shown}`,
      )
    }
    this.#reserve(HEADER_SIZE + text.length * UTF8_MAX + dataBytes)
    const payload = this.#buffer.subarray(start + HEADER_SIZE)
    const textBytes = text.length > 0 ? encoder.encodeInto(text, payload).written : 0
    const len = textBytes + dataBytes
    expectPayload(type, len)
    if (data) payload.set(data, textBytes)
    this.#view.setUint32(start + at.type, type, true)
    this.#view.setUint32(start + at.req_id, reqId, true)
    this.#view.setUint32(start + at.tx_id, txId, true)
    this.#view.setUint32(start + at.len, len, true)
    this.#length += HEADER_SIZE + len
  }

  /** Returns the packed bytes and removes them. The view is valid until the next `append`. */
  take(): Uint8Array {
    const packed = this.#buffer.subarray(0, this.#length)
    this.#length = 0
    if (this.#buffer.length > KEPT_SIZE) this.#use(new Uint8Array(INITIAL_SIZE))
    return packed
  }

  #reserve(bytes: number): void {
    const needed = this.#length + bytes
    if (needed <= this.#buffer.length) return
    const larger = new Uint8Array(Math.max(needed, this.#buffer.length * 2))
    larger.set(this.#buffer.subarray(0, this.#length))
    this.#use(larger)
  }

  #use(buffer: Uint8Array<ArrayBuffer>): void {
    this.#buffer = buffer
    this.#view = new DataView(buffer.buffer)
  }
}
