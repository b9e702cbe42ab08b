/**
 * Requests on /dev/xen/xenbus, one at a time. The driver takes a request without copying its
 * payload: what it queues for xenstored points into the file's one buffer, which the next write
 * fills (xenbus_dev_request_and_reply in drivers/xen/xenbus/xenbus_xs.c). Of two requests that are
 * sent without waiting, the first may therefore arrive with the second one's path. The reply says
 * that the buffer is free.
 */
export class RequestQueue {
  readonly #send: (message: Uint8Array) => void
  readonly #waiting: Uint8Array[] = []
  #unanswered = false

  /** @param send hands a whole message to the driver */
  constructor(send: (message: Uint8Array) => void) {
    this.#send = send
  }

  /**
   * Sends the message, or keeps it until those before it are answered. It must not be changed
   * afterwards.
   */
  push(message: Uint8Array): void {
    this.#waiting.push(message)
    this.#next()
  }

  /** The message that was sent last is answered. */
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
