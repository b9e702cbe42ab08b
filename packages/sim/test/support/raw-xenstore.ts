/** A bare xenstore client: it sends the test's messages and records replies and events. */
import { XS, XsPacker, XsParser } from '@xenkit/wire'
import type { Connection } from '../../src/xenstored/connection.ts'
import { Xenstored, type XenstoredOptions } from '../../src/xenstored/index.ts'

export class RawXenstore {
  readonly connection: Connection
  /** Events that `events` hasn't returned yet, each as `path token`. */
  #events: string[] = []
  /** Types of all messages received, in order of arrival. */
  readonly arrivals: number[] = []
  ended: Error | undefined
  readonly #waiting = new Map<number, (reply: string) => void>()
  readonly #packer = new XsPacker()
  #lastReqId = 0

  constructor(xenstored: Xenstored, domid: number) {
    const parser = new XsParser((type, reqId, _txId, payload) => {
      const text = Buffer.from(payload).toString('latin1')
      this.arrivals.push(type)
      if (type === XS.WATCH_EVENT) this.#events.push(text.replaceAll('\0', ' ').trimEnd())
      else this.#waiting.get(reqId)?.(type === XS.ERROR ? text.slice(0, -1) : text)
    })
    this.connection = xenstored.connect(domid, {
      data: (bytes) => parser.push(bytes),
      closed: (reason) => {
        this.ended = reason
      },
    })
  }

  /**
   * @param payload the request's payload, with `|` for NUL
   * @returns the reply with `|` for NUL, or the errno name
   */
  async ask(type: number, payload: string, txId = 0): Promise<string> {
    const reqId = ++this.#lastReqId
    const reply = new Promise<string>((resolve) => this.#waiting.set(reqId, resolve))
    this.#packer.append(type, reqId, txId, payload.replaceAll('|', '\0'))
    this.connection.write(this.#packer.take())
    return (await reply).replaceAll('\0', '|')
  }

  read = (path: string, txId?: number): Promise<string> => this.ask(XS.READ, `${path}|`, txId)
  write = (path: string, value: string, txId?: number): Promise<string> =>
    this.ask(XS.WRITE, `${path}|${value}`, txId)
  list = (path: string, txId?: number): Promise<string> => this.ask(XS.DIRECTORY, `${path}|`, txId)
  mkdir = (path: string, txId?: number): Promise<string> => this.ask(XS.MKDIR, `${path}|`, txId)
  rm = (path: string, txId?: number): Promise<string> => this.ask(XS.RM, `${path}|`, txId)
  getPerms = (path: string, txId?: number): Promise<string> =>
    this.ask(XS.GET_PERMS, `${path}|`, txId)
  setPerms = (path: string, perms: string, txId?: number): Promise<string> =>
    this.ask(XS.SET_PERMS, `${path}|${perms}|`, txId)
  watch = (path: string, token: string): Promise<string> => this.ask(XS.WATCH, `${path}|${token}|`)
  unwatch = (path: string, token: string): Promise<string> =>
    this.ask(XS.UNWATCH, `${path}|${token}|`)
  begin = async (): Promise<number> =>
    Number.parseInt(await this.ask(XS.TRANSACTION_START, '|'), 10)
  end = (txId: number, verdict: 'T' | 'F' = 'T'): Promise<string> =>
    this.ask(XS.TRANSACTION_END, `${verdict}|`, txId)

  /** Waits for events in flight, then returns those that it hasn't returned before. */
  async events(): Promise<string[]> {
    await this.ask(XS.GET_DOMAIN_PATH, '0|')
    const events = this.#events
    this.#events = []
    return events
  }
}

/** Starts a xenstored with domains 0 and 5. Domain 5 owns its home directory. */
export async function startXenstored(
  o: XenstoredOptions = {},
): Promise<{ xenstored: Xenstored; dom0: RawXenstore; dom5: RawXenstore }> {
  const xenstored = new Xenstored(o)
  xenstored.introduceDomain(5)
  const dom0 = new RawXenstore(xenstored, 0)
  await dom0.mkdir('/local/domain/5')
  await dom0.setPerms('/local/domain/5', 'n5')
  return { xenstored, dom0, dom5: new RawXenstore(xenstored, 5) }
}

/** Waits until `holds` returns true. It is called once per round of the event loop. */
export async function until(holds: () => boolean): Promise<void> {
  while (!holds()) await new Promise((resolve) => setImmediate(resolve))
}
