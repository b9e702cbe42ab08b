/**
 * Sends requests to /dev/xen/xenbus one at a time. The driver queues a pointer into the file's
 * single buffer for xenstored, not a copy (xenbus_dev_request_and_reply in
 * drivers/xen/xenbus/xenbus_xs.c), and the next write overwrites that buffer. Of two requests sent
 * without waiting, the first may therefore arrive with the second one's path. The reply shows that
 * the buffer is free.
 */
/** A queue with one request in flight. */
export class RequestQueue {
  readonly #send: (message: Uint8Array) => void
  readonly #waiting: Uint8Array[] = []
  #unanswered = false

  /** @param send passes a whole message to the driver */
  constructor(send: (message: Uint8Array) => void) {
    this.#send = send
  }

  /**
   * Sends the message, or queues it until those before it are answered. The caller must not change
   * it afterwards.
   */
  push(message: Uint8Array): void {
    this.#waiting.push(message)
    this.#next()
  }

  /** Reports that the request in flight was answered; sends the next one. */
  answered(): void {
    this.#unanswered = false
    this.#next()
  }

  #next(): void {
    if (this.#unanswered) return
    const message = this.#waiting.shift()
    if (!message) return
    this.#unanswered = true
    this.#send(message)
  }
}
