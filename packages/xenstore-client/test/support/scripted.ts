/** A xenstore port without a xenstored: the test sees each request and sends the replies. */
import type { ByteStreamReceiver, XenstorePort } from '@xenkit/hypervisor'
import { XsPacker, XsParser } from '@xenkit/wire'

export interface Sent {
  readonly type: number
  readonly reqId: number
  readonly txId: number
  /** The message's payload, with `|` for NUL. */
  readonly payload: string
}

export class ScriptedXenstored implements XenstorePort {
  readonly sent: Sent[] = []
  /** Number of messages in each write. */
  readonly writes: number[] = []
  closed = false
  #receiver: ByteStreamReceiver | undefined

  async connect(
    receiver: ByteStreamReceiver,
  ): Promise<{ write(bytes: Uint8Array): void; close(): void }> {
    this.#receiver = receiver
    const parser = new XsParser((type, reqId, txId, payload) =>
      this.sent.push({
        type,
        reqId,
        txId,
        payload: Buffer.from(payload).toString().replaceAll('\0', '|'),
      }),
    )
    return {
      write: (bytes) => {
        const before = this.sent.length
        parser.push(bytes)
        this.writes.push(this.sent.length - before)
      },
      close: () => {
        this.closed = true
      },
    }
  }

  send(type: number, reqId: number, payload: string): void {
    const packer = new XsPacker()
    packer.append(type, reqId, 0, payload.replaceAll('|', '\0'))
    this.sendBytes(packer.take())
  }

  sendBytes(bytes: Uint8Array): void {
    this.#receiver?.data(bytes)
  }

  drop(reason: string): void {
    this.closed = true
    this.#receiver?.closed(new Error(reason))
  }
}
