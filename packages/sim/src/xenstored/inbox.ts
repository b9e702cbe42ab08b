/** What one client has sent and xenstored hasn't taken yet. It is taken one message at a time. */
import { type XsMessageHandler, XsParser } from '@xenkit/wire'

/** Bytes from which on the client is asked to wait. */
const FULL = 64 * 1024
/** Bytes that may wait, if it doesn't: some hundred thousand requests. */
const BYTES_MAX = 16 * 1024 * 1024
const INITIAL_SIZE = 4096

export class Inbox {
  readonly #onMessage: XsMessageHandler
  #parser: XsParser
  #buffer = new Uint8Array(INITIAL_SIZE)
  /** What waits lies between these two. */
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
   * Takes what waits, up to the end of one message.
   * @throws XsFormatError
   */
  take(): void {
    const parser = this.#parser
    const taken = parser.take(this.#buffer.subarray(0, this.#end), this.#start)
    if (parser !== this.#parser) return // that message was the last: all was cleared
    this.#start += taken
    if (!this.isEmpty) return
    this.#start = 0
    this.#end = 0
    if (this.#buffer.length > FULL) this.#buffer = new Uint8Array(INITIAL_SIZE)
  }

  /** Forgets what waits, the beginning of a message included. */
  clear(): void {
    this.#parser = new XsParser(this.#onMessage)
    this.#buffer = new Uint8Array(INITIAL_SIZE)
    this.#start = 0
    this.#end = 0
  }

  #makeRoom(more: number): void {
    const waiting = this.#buffer.subarray(this.#start, this.#end)
    const needed = waiting.length + more
    // Moved within the buffer only where that makes much room, so that a byte isn't moved again and
    // again.
    if (needed * 2 > this.#buffer.length) this.#buffer = new Uint8Array(needed * 2)
    this.#buffer.set(waiting)
    this.#start = 0
    this.#end = waiting.length
  }
}
