/** The xenstore port of one domain and thread. */
import type { ByteStream, ByteStreamReceiver, XenstorePort } from '@xenkit/hypervisor'
import type { Attachment, Opened } from './attachment.ts'
import { KeepAlive } from './keep-alive.ts'

/** A connection to xenstored whose receiver can pause it. */
export interface XenstoreStream extends ByteStream {
  pause(): void
  resume(): void
}

/** Opens a connection to xenstored with the rights of one domain. */
export type XenstoreConnector<Stream extends ByteStream = ByteStream> = (
  receiver: ByteStreamReceiver,
) => Stream

/** Implements `XenstorePort` for one domain and thread. */
export class SimXenstore implements XenstorePort {
  readonly #attachment: Attachment
  readonly #connect: XenstoreConnector
  readonly #keepAlive = new KeepAlive()

  constructor(attachment: Attachment, connect: XenstoreConnector) {
    this.#attachment = attachment
    this.#connect = connect
  }

  async connect(receiver: ByteStreamReceiver): Promise<ByteStream> {
    this.#attachment.expectAlive()
    const connection = new Connection(receiver, this.#connect, () => {
      this.#keepAlive.release()
      this.#attachment.forget(connection)
    })
    this.#keepAlive.hold()
    this.#attachment.opened(connection)
    return connection
  }
}

class Connection implements ByteStream, Opened {
  readonly #receiver: ByteStreamReceiver
  readonly #stream: ByteStream
  readonly #onEnd: () => void
  #open = true

  constructor(receiver: ByteStreamReceiver, connect: XenstoreConnector, onEnd: () => void) {
    this.#receiver = receiver
    this.#onEnd = onEnd
    this.#stream = connect({
      data: (bytes) => {
        if (this.#open) receiver.data(bytes)
      },
      closed: (reason) => {
        if (!this.#open) return
        this.#end()
        receiver.closed(reason)
      },
    })
  }

  write(bytes: Uint8Array): void {
    if (this.#open) this.#stream.write(bytes)
  }

  close(): void {
    if (!this.#open) return
    this.#end()
    this.#stream.close()
  }

  abandon(): void {
    if (!this.#open) return
    this.close()
    this.#receiver.closed(new Error('the domain was closed or destroyed'))
  }

  #end(): void {
    this.#open = false
    this.#onEnd()
  }
}
