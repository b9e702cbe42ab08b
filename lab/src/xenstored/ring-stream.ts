/** A domain's byte stream to and from xenstored, through the file that is its ring page. */
import { readSync, writeSync } from 'node:fs'
import type { ByteStream, ByteStreamReceiver } from '@xenkit/hypervisor'
import { XENSTORE_RING_SIZE, xenstoreDomainInterface } from '@xenkit/wire'

const { at } = xenstoreDomainInterface
type Index = 'req_cons' | 'req_prod' | 'rsp_cons' | 'rsp_prod'

export class RingStream implements ByteStream {
  readonly #page: number
  readonly #receiver: ByteStreamReceiver
  readonly #notify: () => void
  readonly #words = new Uint32Array(4)
  readonly #waiting: Uint8Array[] = []
  #open = true

  /**
   * @param page descriptor of the file
   * @param notify notifies xenstored
   */
  constructor(page: number, receiver: ByteStreamReceiver, notify: () => void) {
    this.#page = page
    this.#receiver = receiver
    this.#notify = notify
  }

  write(bytes: Uint8Array): void {
    if (!this.#open) return
    this.#waiting.push(Uint8Array.from(bytes))
    this.#send()
  }

  close(): void {
    this.#open = false
  }

  /** Called when xenstored has read requests or written responses. */
  onEvent(): void {
    this.#receive()
    if (this.#open) this.#send()
  }

  lost(reason: Error): void {
    if (!this.#open) return
    this.#open = false
    this.#receiver.closed(reason)
  }

  #send(): void {
    let sent = false
    for (let bytes = this.#waiting[0]; bytes; bytes = this.#waiting[0]) {
      const { req_cons: cons, req_prod: prod } = this.#indices()
      const start = prod % XENSTORE_RING_SIZE
      const space = XENSTORE_RING_SIZE - ((prod - cons) >>> 0)
      const count = Math.min(bytes.length, space, XENSTORE_RING_SIZE - start)
      if (count === 0) break
      writeSync(this.#page, bytes, 0, count, at.req + start)
      // Write the index after the bytes, so that xenstored never sees the index first.
      this.#publish('req_prod', prod + count)
      sent = true
      if (count < bytes.length) this.#waiting[0] = bytes.subarray(count)
      else this.#waiting.shift()
    }
    if (sent) this.#notify()
  }

  #receive(): void {
    let received = false
    while (this.#open) {
      const { rsp_cons: cons, rsp_prod: prod } = this.#indices()
      const start = cons % XENSTORE_RING_SIZE
      const count = Math.min((prod - cons) >>> 0, XENSTORE_RING_SIZE - start)
      if (count === 0) break
      const bytes = new Uint8Array(count)
      readSync(this.#page, bytes, 0, count, at.rsp + start)
      this.#publish('rsp_cons', cons + count)
      received = true
      this.#receiver.data(bytes)
    }
    if (received) this.#notify()
  }

  /**
   * Reads all four indices, which are adjacent. They are read anew each time, because xenstored
   * resets them when the domain is introduced again.
   */
  #indices(): Record<Index, number> {
    readSync(this.#page, this.#words, 0, 16, at.req_cons)
    const [req_cons = 0, req_prod = 0, rsp_cons = 0, rsp_prod = 0] = this.#words
    return { req_cons, req_prod, rsp_cons, rsp_prod }
  }

  #publish(index: Index, value: number): void {
    this.#words[0] = value
    writeSync(this.#page, this.#words, 0, 4, at[index])
  }
}
