/**
 * Parses a byte stream into simple replies. A read's data is copied once, from the received chunk
 * to the read's buffers, however the stream is split. Between chunks at most one header is kept.
 */
import { nbdSimpleReply, NBD_SIMPLE_REPLY_MAGIC } from './protocol.ts'
import { expectField } from './nbd-error.ts'

export interface ReplyHandler {
  /**
   * Returns the buffers for the data that follows the reply: only a read's reply has data.
   * @throws NbdProtocolError if no request with that cookie is in flight
   */
  dataOf(cookie: number, error: number): readonly Uint8Array[]
  /** Called when the reply is complete. If this throws, `push` throws the same error. */
  answered(cookie: number, error: number): void
}

const { size: HEADER_SIZE, at } = nbdSimpleReply

export class ReplyParser {
  readonly #handler: ReplyHandler
  readonly #held = new Uint8Array(HEADER_SIZE)
  readonly #heldView = new DataView(this.#held.buffer)
  #heldBytes = 0
  #cookie = 0
  #error = 0
  /** Buffers of the reply that is being received; the first `#filled` are full. */
  #data: readonly Uint8Array[] = []
  #filled = 0
  #filledBytes = 0

  constructor(handler: ReplyHandler) {
    this.#handler = handler
  }

  /**
   * Takes the next bytes of the stream.
   * @throws NbdProtocolError, or what the handler throws; the parser can't be used afterwards
   */
  push(bytes: Uint8Array): void {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
    let offset = 0
    while (offset < bytes.length) {
      if (this.#filled < this.#data.length) {
        offset = this.#fill(bytes, offset)
      } else if (this.#heldBytes === 0 && bytes.length - offset >= HEADER_SIZE) {
        this.#begin(view, offset)
        offset += HEADER_SIZE
      } else {
        offset = this.#hold(bytes, offset)
      }
    }
  }

  #hold(bytes: Uint8Array, offset: number): number {
    const part = bytes.subarray(offset, offset + HEADER_SIZE - this.#heldBytes)
    this.#held.set(part, this.#heldBytes)
    this.#heldBytes += part.length
    if (this.#heldBytes === HEADER_SIZE) {
      this.#heldBytes = 0
      this.#begin(this.#heldView, 0)
    }
    return offset + part.length
  }

  #begin(view: DataView, offset: number): void {
    expectField('magic', view.getUint32(offset + at.magic), NBD_SIMPLE_REPLY_MAGIC)
    // The upper half of the cookie is 0: this client's cookies have 32 bits.
    expectField('cookie', view.getUint32(offset + at.cookie), 0)
    this.#cookie = view.getUint32(offset + at.cookie + 4)
    this.#error = view.getUint32(offset + at.error)
    this.#data = this.#handler.dataOf(this.#cookie, this.#error)
    this.#filled = 0
    this.#filledBytes = 0
    this.#skipFull()
  }

  #fill(bytes: Uint8Array, offset: number): number {
    const buffer = this.#data[this.#filled] ?? bytes.subarray(0, 0)
    const part = bytes.subarray(offset, offset + buffer.length - this.#filledBytes)
    buffer.set(part, this.#filledBytes)
    this.#filledBytes += part.length
    this.#skipFull()
    return offset + part.length
  }

  #skipFull(): void {
    while (this.#data[this.#filled]?.length === this.#filledBytes) {
      this.#filledBytes = 0
      this.#filled++
    }
    if (this.#filled === this.#data.length) this.#handler.answered(this.#cookie, this.#error)
  }
}
