/**
 * One connection to an NBD server, after the handshake. Many requests may be in flight. All
 * requests of one tick are sent together; replies come in any order and are matched by cookie.
 */
import type { ConnectionOptions } from 'node:tls'
import { nbdRequest, NBD_REQUEST_MAGIC, NBD_ERRNO, NBD_CMD } from './protocol.ts'
import { NbdError, NbdProtocolError } from './nbd-error.ts'
import { type ExportInfo, negotiate } from './negotiation.ts'
import { ReplyParser } from './replies.ts'
import { Transport } from './transport.ts'
import type { NbdTarget } from './uri.ts'

/** One request to the server, from its first sending to its answer. */
export interface Request {
  /** A value of NBD_CMD. */
  readonly type: number
  /** First byte of the request's range in the export. */
  readonly offset: number
  /** Length of the request's range in bytes. */
  readonly length: number
  /** Buffers that a read fills or a write sends. */
  readonly data: readonly Uint8Array[]
  readonly resolve: () => void
  readonly reject: (error: Error) => void
  /**
   * For a flush: number of writes and discards that were answered before it was made, which it
   * covers.
   */
  readonly answered: number
  /**
   * Time, by `performance.now`, after which the request fails if no connection is open. Set when
   * the request first waits without a connection.
   */
  giveUpAt: number | undefined
}

/** How a connection is opened. */
export interface ConnectOptions {
  readonly tls: ConnectionOptions
  /** Milliseconds for the whole handshake, for each request once it is sent, and for closing. */
  readonly timeoutMs: number
  readonly signal: AbortSignal
}

interface InFlight {
  readonly request: Request
  /** When the request was sent, by `performance.now`. */
  readonly sentAt: number
  /** Number of the burst that the request is sent in: all requests of one tick. */
  readonly burst: number
  refusal?: NbdError
}

const { size: HEADER_SIZE, at } = nbdRequest
const NO_DATA: readonly Uint8Array[] = []
const commandNames = new Map<number, string>(
  Object.entries(NBD_CMD).map(([name, type]) => [type, name.toLowerCase()]),
)

export class NbdConnection {
  readonly info: ExportInfo
  readonly openedAt = performance.now()
  /** Why the connection ended. */
  lost: Error | undefined
  /** Called when a request was answered or refused. */
  onSettled: (request: Request, refusal: NbdError | undefined) => void = () => {}
  /** Called once if the connection is lost, with the requests in flight: none will be answered. */
  onLost: (reason: Error, requests: Request[]) => void = () => {}
  readonly #uri: string
  readonly #transport: Transport
  readonly #timeoutMs: number
  readonly #inFlight = new Map<number, InFlight>()
  #lastCookie = 0
  /** Requests to send at the end of this tick. */
  #outbox: [cookie: number, request: Request][] = []
  #burst = 0
  /** Number of the last burst that the socket has sent completely. */
  #sentBurst = -1
  /**
   * Writes that were answered before the socket had sent all of their data, which it still needs.
   */
  #early: InFlight[] = []
  /** Timer that checks the oldest request. It may outlast the last request. */
  #deadline: NodeJS.Timeout | undefined

  /** @throws NbdError, NbdProtocolError, the system's or TLS's error, or the signal's reason */
  static async open(target: NbdTarget, o: ConnectOptions): Promise<NbdConnection> {
    o.signal.throwIfAborted()
    const transport = new Transport(target, o.timeoutMs)
    const late = setTimeout(
      () => transport.destroy(new Error(`no NBD handshake within ${o.timeoutMs} ms`)),
      o.timeoutMs,
    )
    const abort = (): void => transport.destroy(o.signal.reason)
    o.signal.addEventListener('abort', abort)
    try {
      const lost = new Promise<never>((_, reject) => (transport.onLost = reject))
      const info = await Promise.race([lost, negotiate(transport, target, o.tls)])
      return new NbdConnection(target.uri, transport, info, o.timeoutMs)
    } catch (error) {
      transport.destroy(new Error('the handshake failed'))
      throw error
    } finally {
      clearTimeout(late)
      o.signal.removeEventListener('abort', abort)
    }
  }

  private constructor(uri: string, transport: Transport, info: ExportInfo, timeoutMs: number) {
    this.#uri = uri
    this.#transport = transport
    this.#timeoutMs = timeoutMs
    this.info = info
    const parser = new ReplyParser({
      dataOf: (cookie, error) => this.#dataOf(cookie, error),
      answered: (cookie, error) => this.#answered(cookie, error),
    })
    transport.onBytes = (bytes) => parser.push(bytes)
    transport.onLost = (reason) => this.#lost(reason)
  }

  /** Requests in flight. */
  get load(): number {
    return this.#inFlight.size + this.#early.length
  }

  send(request: Request): void {
    do this.#lastCookie = (this.#lastCookie + 1) >>> 0
    while (this.#inFlight.has(this.#lastCookie))
    this.#inFlight.set(this.#lastCookie, { request, sentAt: performance.now(), burst: this.#burst })
    this.#deadline ??= setTimeout(this.#expectAnswer, this.#timeoutMs)
    if (this.#outbox.push([this.#lastCookie, request]) === 1) process.nextTick(() => this.#flush())
  }

  /** Disconnects from the server. Nothing may be in flight. */
  async close(): Promise<void> {
    clearTimeout(this.#deadline)
    const header = Buffer.alloc(HEADER_SIZE)
    writeHeader(header, 0, 0, { type: NBD_CMD.DISC, offset: 0, length: 0 })
    const late = (): void => this.destroy(new Error('the server does not take leave'))
    const timer = setTimeout(late, this.#timeoutMs)
    this.#transport.write([header], () => {})
    await this.#transport.close()
    clearTimeout(timer)
  }

  /** Ends the connection immediately. */
  destroy(reason: Error): void {
    this.#transport.destroy(reason)
  }

  /**
   * Ends the connection if its oldest request has waited too long: a server may answer others and
   * withhold one reply. The request can't fail alone: its data could still arrive later, in memory
   * that is used for something else by then.
   */
  readonly #expectAnswer = (): void => {
    this.#deadline = undefined
    const inFlight = [...this.#early, ...this.#inFlight.values()]
    const [oldest] = inFlight.toSorted((a, b) => a.sentAt - b.sentAt)
    if (!oldest) return
    const left = oldest.sentAt + this.#timeoutMs - performance.now()
    if (left > 0) {
      this.#deadline = setTimeout(this.#expectAnswer, left)
      return
    }
    const why = `no answer within ${this.#timeoutMs} ms`
    this.destroy(requestError(this.#uri, oldest.request, 'ETIMEDOUT', why))
  }

  #flush(): void {
    const outbox = this.#outbox
    const burst = this.#burst++
    this.#outbox = []
    const headers = Buffer.allocUnsafe(outbox.length * HEADER_SIZE)
    const chunks: Uint8Array[] = []
    let begin = 0
    let end = 0
    for (const [cookie, request] of outbox) {
      writeHeader(headers, end, cookie, request)
      end += HEADER_SIZE
      if (request.type !== NBD_CMD.WRITE) continue
      chunks.push(headers.subarray(begin, end), ...request.data)
      begin = end
    }
    if (begin < end) chunks.push(headers.subarray(begin, end))
    this.#transport.write(chunks, () => this.#sent(burst))
  }

  #sent(burst: number): void {
    this.#sentBurst = burst
    if (this.#early.length === 0) return
    const settled = this.#early.filter((early) => early.burst <= burst)
    this.#early = this.#early.filter((early) => early.burst > burst)
    for (const { request, refusal } of settled) this.onSettled(request, refusal)
  }

  #dataOf(cookie: number, error: number): readonly Uint8Array[] {
    const { request } = this.#find(cookie)
    return request.type === NBD_CMD.READ && error === 0 ? request.data : NO_DATA
  }

  #answered(cookie: number, error: number): void {
    const inFlight = this.#find(cookie)
    const { request, burst } = inFlight
    const errno = error === 0 ? undefined : (NBD_ERRNO.get(error) ?? 'EINVAL')
    // The request stays in flight, and is sent again after the server's restart.
    if (errno === 'ESHUTDOWN') {
      throw new NbdError(`${this.#uri}: the server is being shut down`, { uri: this.#uri, errno })
    }
    this.#inFlight.delete(cookie)
    if (errno !== undefined) inFlight.refusal = requestError(this.#uri, request, errno)
    if (burst > this.#sentBurst && request.type === NBD_CMD.WRITE) this.#early.push(inFlight)
    else this.onSettled(request, inFlight.refusal)
  }

  #find(cookie: number): InFlight {
    const inFlight = this.#inFlight.get(cookie)
    if (!inFlight) {
      throw new NbdProtocolError(
        `nbd field "cookie" expected that of a request in flight, got ${cookie}`,
        { field: 'cookie', value: cookie },
      )
    }
    return inFlight
  }

  #lost(reason: Error): void {
    this.lost = reason
    clearTimeout(this.#deadline)
    const requests = [...this.#early, ...this.#inFlight.values()].map(({ request }) => request)
    this.#inFlight.clear()
    this.#early = []
    this.#outbox = []
    this.onLost(reason, requests)
  }
}

/** Writes a request's header. Offsets are up to 2^52, so a double holds them exactly. */
function writeHeader(
  header: Buffer,
  start: number,
  cookie: number,
  { type, offset, length }: Pick<Request, 'type' | 'offset' | 'length'>,
): void {
  header.writeUInt32BE(NBD_REQUEST_MAGIC, start + at.magic)
  header.writeUInt16BE(0, start + at.flags)
  header.writeUInt16BE(type, start + at.type)
  header.writeUInt32BE(0, start + at.cookie)
  header.writeUInt32BE(cookie, start + at.cookie + 4)
  header.writeUInt32BE(Math.floor(offset / 2 ** 32), start + at.offset)
  header.writeUInt32BE(offset >>> 0, start + at.offset + 4)
  header.writeUInt32BE(length, start + at.length)
}

function requestError(uri: string, request: Request, errno: string, why = errno): NbdError {
  const { type, offset, length } = request
  const name = `${commandNames.get(type) ?? type} of ${length} bytes at ${offset}`
  return new NbdError(`${uri}: ${name}: ${why}`, { uri, errno })
}
