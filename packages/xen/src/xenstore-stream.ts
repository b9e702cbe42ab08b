/** A connection to xenstored over any transport. It ends once, and delivers nothing afterwards. */
import type { ByteStream, ByteStreamReceiver } from '@xenkit/hypervisor'

/** The mechanism that carries a xenstore connection. */
export interface Transport {
  /**
   * Sends bytes, and copies them before it returns. If it throws, the stream ends with that error.
   */
  send(bytes: Uint8Array): void
  shut(): void
}

/** The hypervisor port's `ByteStream`, over a transport. */
export class XenstoreStream implements ByteStream {
  readonly #receiver: ByteStreamReceiver
  readonly #transport: Transport
  readonly #onEnd: (stream: XenstoreStream) => void
  #open = true

  /**
   * @param connect creates the transport, which later calls `received` and `lost`
   * @param onEnd called once, however the stream ends
   */
  constructor(
    receiver: ByteStreamReceiver,
    connect: (stream: XenstoreStream) => Transport,
    onEnd: (stream: XenstoreStream) => void,
  ) {
    this.#receiver = receiver
    this.#onEnd = onEnd
    this.#transport = connect(this)
  }

  write(bytes: Uint8Array): void {
    if (!this.#open) return
    try {
      this.#transport.send(bytes)
    } catch (error) {
      // Deferred to a microtask: the client must not be called from within its own write.
      const reason = error instanceof Error ? error : new Error(String(error))
      queueMicrotask(() => this.lost(reason))
    }
  }

  close(): void {
    if (!this.#open) return
    this.#open = false
    this.#transport.shut()
    this.#onEnd(this)
  }

  received(bytes: Uint8Array): void {
    if (this.#open) this.#receiver.data(bytes)
  }

  lost(reason: Error): void {
    if (!this.#open) return
    this.close()
    this.#receiver.closed(reason)
  }
}
