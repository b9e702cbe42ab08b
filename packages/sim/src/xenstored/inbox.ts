/**
 * Bytes that one client has sent and xenstored hasn't processed. They are processed one message at
 * a time.
 */
import { type XsMessageHandler, XsParser } from '@xenkit/wire'

/** Queued bytes from which on the client should wait. */
const FULL = 64 * 1024
/**
 * Queued bytes at which a client that doesn't wait is disconnected: some hundred thousand requests.
 */
const BYTES_MAX = 16 * 1024 * 1024
const INITIAL_SIZE = 4096

/** The queue of a connection's requests. */
export class Inbox {
  readonly #onMessage: XsMessageHandler
  #parser: XsParser
  #buffer = new Uint8Array(INITIAL_SIZE)
  /** Bounds of the queued bytes in the buffer. */
  #start = 0
  #end = 0

  constructor(onMessage: XsMessageHandler) {
    this.#onMessage = onMessage
    this.#parser = new XsParser(onMessage)
  }

  get isEmpty(): boolean {
    return this.#start === this.#end
  }

  get isFull(): boolean {
    return this.#end - this.#start >= FULL
  }

  get isOverflowing(): boolean {
    return this.#end - this.#start > BYTES_MAX
  }

  add(bytes: Uint8Array): void {
    if (this.#end + bytes.length > this.#buffer.length) this.#makeRoom(bytes.length)
    this.#buffer.set(bytes, this.#end)
    this.#end += bytes.length
  }

  /**
   * Processes queued bytes to the end of one message.
   * @throws XsFormatError
   */
  take(): void {
    const parser = this.#parser
    const taken = parser.take(this.#buffer.subarray(0, this.#end), this.#start)
    if (parser !== this.#parser) return // the message ended or reset the connection
    this.#start += taken
    if (!this.isEmpty) return
    this.#start = 0
    this.#end = 0
    if (this.#buffer.length > FULL) this.#buffer = new Uint8Array(INITIAL_SIZE)
  }

  /** Drops the queued bytes, including an incomplete message. */
  clear(): void {
    this.#parser = new XsParser(this.#onMessage)
    this.#buffer = new Uint8Array(INITIAL_SIZE)
    this.#start = 0
    this.#end = 0
  }

  #makeRoom(more: number): void {
    const waiting = this.#buffer.subarray(this.#start, this.#end)
    const needed = waiting.length + more
    // The buffer is compacted only when that frees half of it, so that bytes aren't moved again and
    // again.
    if (needed * 2 > this.#buffer.length) this.#buffer = new Uint8Array(needed * 2)
    this.#buffer.set(waiting)
    this.#start = 0
    this.#end = waiting.length
  }
}
