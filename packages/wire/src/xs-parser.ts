/**
 * Splits a byte stream into xenstore messages. A message within one chunk is parsed in place. A
 * message that spans chunks is collected in a buffer of one message. So every byte is copied at
 * most once, and memory is bounded however the stream is split.
 */
import { XENSTORE_PAYLOAD_MAX, xsdSockmsg } from './xs-wire.ts'

/**
 * Receives one message. `payload` is valid until the handler returns. `push` throws the handler's
 * errors.
 */
export type XsMessageHandler = (
  type: number,
  reqId: number,
  txId: number,
  payload: Uint8Array,
) => void

/**
 * Bytes that aren't a stream of xenstore messages. The next header can't be found: end the
 * connection.
 */
export class XsFormatError extends Error {
  /** The header field that is invalid. */
  readonly field = 'len'
  readonly value: number

  constructor(len: number) {
    super(`xenstore header field "len" expected 0..${XENSTORE_PAYLOAD_MAX}, got ${len}`)
    this.name = 'XsFormatError'
    this.value = len
  }
}

const { size: HEADER_SIZE, at } = xsdSockmsg

const viewOf = (bytes: Uint8Array): DataView =>
  new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)

/** Returns the size of the message whose header is at `offset`. */
const messageSize = (view: DataView, offset: number): number => {
  const len = view.getUint32(offset + at.len, true)
  if (len > XENSTORE_PAYLOAD_MAX) throw new XsFormatError(len)
  return HEADER_SIZE + len
}

/** Parses one direction of a xenstore connection. */
export class XsParser {
  readonly #onMessage: XsMessageHandler
  /** An incomplete message: `#heldBytes` bytes of it have arrived. */
  readonly #held = new Uint8Array(HEADER_SIZE + XENSTORE_PAYLOAD_MAX)
  readonly #heldView = new DataView(this.#held.buffer)
  #heldBytes = 0

  constructor(onMessage: XsMessageHandler) {
    this.#onMessage = onMessage
  }

  /**
   * Takes the next bytes of the stream and passes every message that is now complete to the
   * handler.
   * @throws XsFormatError, or the handler's error; the parser can't be used afterwards
   */
  push(bytes: Uint8Array): void {
    const view = viewOf(bytes)
    for (let offset = 0; offset < bytes.length;) offset += this.#take(view, bytes, offset)
  }

  /**
   * Takes bytes from `offset` to the end of one message at most. Throws as `push` does.
   * @returns how many bytes it took
   */
  take(bytes: Uint8Array, offset: number): number {
    return this.#take(viewOf(bytes), bytes, offset)
  }

  #take(view: DataView, bytes: Uint8Array, offset: number): number {
    if (this.#heldBytes > 0) return this.#complete(bytes, offset)
    if (bytes.length - offset >= HEADER_SIZE) {
      const size = messageSize(view, offset)
      if (bytes.length - offset >= size) {
        this.#emit(view, bytes, offset, size)
        return size
      }
    }
    return this.#hold(bytes, offset, bytes.length)
  }

  /**
   * Continues the incomplete message.
   * @returns how many of the bytes belonged to that message
   */
  #complete(bytes: Uint8Array, offset: number): number {
    let taken = this.#hold(bytes, offset, offset + HEADER_SIZE - this.#heldBytes)
    if (this.#heldBytes < HEADER_SIZE) return taken
    const size = messageSize(this.#heldView, 0)
    taken += this.#hold(bytes, offset + taken, offset + taken + size - this.#heldBytes)
    if (this.#heldBytes === size) {
      this.#heldBytes = 0
      this.#emit(this.#heldView, this.#held, 0, size)
    }
    return taken
  }

  #hold(bytes: Uint8Array, from: number, to: number): number {
    if (to <= from) return 0
    const part = bytes.subarray(from, to)
    this.#held.set(part, this.#heldBytes)
    this.#heldBytes += part.length
    return part.length
  }

  #emit(view: DataView, bytes: Uint8Array, offset: number, size: number): void {
    this.#onMessage(
      view.getUint32(offset + at.type, true),
      view.getUint32(offset + at.req_id, true),
      view.getUint32(offset + at.tx_id, true),
      // A plain Uint8Array: `subarray` of a Buffer returns a Buffer, whose `slice` doesn't copy.
      new Uint8Array(bytes.buffer, bytes.byteOffset + offset + HEADER_SIZE, size - HEADER_SIZE),
    )
  }
}
