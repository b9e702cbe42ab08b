/**
 * Cuts a byte stream into simple replies. The data of a read goes straight from the chunk that it
 * came in to where the read wants it: copied once, however the stream is split. Between chunks at
 * most one header is kept.
 */
import { nbdSimpleReply, NBD_SIMPLE_REPLY_MAGIC } from './protocol.ts'
import { expectField } from './nbd-error.ts'

export interface ReplyHandler {
  /**
   * Where the data that follows the reply belongs: nowhere, but for a read. Throws if nothing waits
   * for a reply with that cookie.
   */
  dataOf(cookie: number, error: number): readonly Uint8Array[]
  /** The reply is complete. What it throws, `push` throws. */
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
  /** Buffers of the reply that is being received, of which the first `#filled` are full. */
  #data: readonly Uint8Array[] = []
  #filled = 0
  #filledBytes = 0

  constructor(handler: ReplyHandler) {
    this.#handler = handler
  }

  /**
   * Takes the next bytes of the stream.
   * @throws NbdProtocolError, or what the handler throws; the parser is of no use afterwards
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
    // its upper half: ours fit into the lower
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
