/** A connection to xenstored, whatever carries it: ends once, and is silent from then on. */
import type { ByteStream, ByteStreamReceiver } from '@xenkit/hypervisor'

export interface Transport {
  /** Takes the bytes before it returns. What it throws ends the stream. */
  send(bytes: Uint8Array): void
  shut(): void
}

export class XenstoreStream implements ByteStream {
  readonly #receiver: ByteStreamReceiver
  readonly #transport: Transport
  readonly #onEnd: (stream: XenstoreStream) => void
  #open = true

  /**
   * @param connect makes the transport, which gives what it hears to `received` and `lost`, later
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
      // The writer is told as of any loss: not while it writes.
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
