/**
 * Sends requests to /dev/xen/xenbus one at a time. For each request the driver gives xenstored a
 * pointer to the file's single buffer, not a copy (xenbus_dev_request_and_reply in
 * drivers/xen/xenbus/xenbus_xs.c), and the next write overwrites that buffer. If two requests were
 * sent without waiting, the first could arrive with the second one's path. The reply to a request
 * shows that its buffer is free.
 */
/** A queue of requests, of which one is in flight. */
export class RequestQueue {
  readonly #send: (message: Uint8Array) => void
  readonly #waiting: Uint8Array[] = []
  #unanswered = false

  /** @param send passes a whole message to the driver */
  constructor(send: (message: Uint8Array) => void) {
    this.#send = send
  }

  /**
   * Sends a message once all earlier ones were answered. The caller must not change the message
   * afterwards.
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
