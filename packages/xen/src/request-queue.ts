/**
 * Requests on /dev/xen/xenbus, one at a time. The driver takes a request without copying its payload:
 * what it queues for xenstored points into the file's one buffer, which the next write fills
 * (xenbus_dev_request_and_reply in drivers/xen/xenbus/xenbus_xs.c). Of two requests that are sent without
 * waiting, the first may therefore arrive with the second one's path. The reply says that the buffer is free.
 */
import { XS, XsParser } from '@xenkit/wire'

export class RequestQueue {
  readonly #send: (message: Uint8Array) => void
  readonly #waiting: Uint8Array[] = []
  readonly #replies: XsParser
  #unanswered = false

  /** @param send hands a whole message to the driver */
  constructor(send: (message: Uint8Array) => void) {
    this.#send = send
    this.#replies = new XsParser((type) => {
      // Events come unasked.
      if (type !== XS.WATCH_EVENT) this.#unanswered = false
    })
  }

  /** Sends the message, or keeps it until those before it are answered. It must not be changed afterwards. */
  push(message: Uint8Array): void {
    this.#waiting.push(message)
    this.#next()
  }

  /** Looks for replies in what the driver has sent. */
  received(bytes: Uint8Array): void {
    this.#replies.push(bytes)
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
