/** A client that sends raw requests and shows raw replies, over any port to a xenstored. */
import type { ByteStream, XenstorePort } from '@xenkit/hypervisor'
import { XS, XsPacker, XsParser } from '@xenkit/wire'

export class RawClient {
  /** Set when the connection has ended: the reason why no more answers will come. */
  ended: Error | undefined
  /** Events that `takeEvents` hasn't returned yet, each as `path|token|`. */
  #events: string[] = []
  readonly #waiting = new Map<number, (reply: string) => void>()
  readonly #packer = new XsPacker()
  #stream: ByteStream | undefined
  #lastReqId = 0

  static async connect(port: XenstorePort): Promise<RawClient> {
    const client = new RawClient()
    const parser = new XsParser((type, reqId, _txId, payload) =>
      client.#heard(type, reqId, Buffer.from(payload).toString('latin1')),
    )
    client.#stream = await port.connect({
      data: (bytes) => parser.push(bytes),
      closed: (reason) => {
        client.ended = reason
        for (const reqId of client.#waiting.keys()) {
          client.#answer(reqId, `ended: ${reason.message}`)
        }
      },
    })
    return client
  }

  /**
   * Sends a request and waits for its reply.
   * @param payload in latin1; `|` stands for NUL
   * @returns the reply in the same form; for an error `!` and its name
   */
  async ask(type: number, payload: string, txId = 0): Promise<string> {
    if (this.ended) return `ended: ${this.ended.message}`
    const reqId = ++this.#lastReqId
    const reply = new Promise<string>((resolve) => this.#waiting.set(reqId, resolve))
    this.#packer.append(type, reqId, txId, '', Buffer.from(payload.replaceAll('|', '\0'), 'latin1'))
    this.#stream?.write(this.#packer.take())
    return reply
  }

  /** Returns the events since the last call, in order. */
  takeEvents(): string[] {
    const events = this.#events
    this.#events = []
    return events
  }

  close(): void {
    this.#stream?.close()
  }

  #heard(type: number, reqId: number, payload: string): void {
    const text = payload.replaceAll('\0', '|')
    if (type === XS.WATCH_EVENT) this.#events.push(text)
    else this.#answer(reqId, `${type === XS.ERROR ? '!' : ''}${text}`)
  }

  #answer(reqId: number, reply: string): void {
    this.#waiting.get(reqId)?.(reply)
    this.#waiting.delete(reqId)
  }
}
