/** An NBD server for tests that drops, delays and reorders answers, and sends wrong ones. */
import { type AddressInfo, type Server, type Socket, createServer } from 'node:net'
import { type CStruct, type Fields, type FieldsOf } from '@xenkit/wire'
import {
  nbdSimpleReply,
  nbdRequest,
  nbdOptionReply,
  nbdOption,
  nbdInfoExport,
  nbdInfoBlockSize,
  nbdGreeting,
  nbdClientFlags,
  NBD_TRANSMISSION,
  NBD_SIMPLE_REPLY_MAGIC,
  NBD_REP_MAGIC,
  NBD_REP,
  NBD_OPTS_MAGIC,
  NBD_OPT,
  NBD_MAGIC,
  NBD_INFO,
  NBD_FLAG,
  NBD_CMD,
} from '../../../src/nbd/protocol.ts'

export interface ServerRequest {
  /** Number of the connection that the request came on, from 0. */
  readonly connection: number
  readonly type: number
  readonly cookie: bigint
  readonly offset: number
  readonly length: number
}

export interface Behaviour {
  /** Bytes to send instead of the greeting. */
  readonly greeting?: Uint8Array
  /**
   * Returns the bytes that answer a client's option, or undefined for the server's normal answer.
   */
  readonly onOption?: (option: number, data: Buffer) => Uint8Array | undefined
  /** Numbers of bytes sent or received after which the server cuts the connection. */
  readonly cutAfterSending?: number
  readonly cutAfterReceiving?: number
  /**
   * Handles a request instead of the server. `answer` executes the request and returns the reply,
   * which the callback may send to `socket`.
   */
  readonly onRequest?: (request: ServerRequest, answer: () => Uint8Array, socket: Socket) => void
  /**
   * Called when a write's header has arrived. The server reads the write's data only after
   * `resume`, and doesn't answer the write.
   */
  readonly onWriteHeader?: (request: ServerRequest, socket: Socket) => void
}

/**
 * Bytes of the greeting and the answer to GO: a cut after more bytes than this hits the first
 * reply.
 */
export const HANDSHAKE_BYTES =
  nbdGreeting.size + 3 * nbdOptionReply.size + nbdInfoExport.size + nbdInfoBlockSize.size

const ALL =
  NBD_TRANSMISSION.HAS_FLAGS |
  NBD_TRANSMISSION.SEND_FLUSH |
  NBD_TRANSMISSION.SEND_TRIM |
  NBD_TRANSMISSION.CAN_MULTI_CONN

export class TestNbdServer implements AsyncDisposable {
  bytes: Uint8Array
  /** Content that was flushed: `kill` reduces `bytes` to this. */
  durable: Uint8Array
  flags: number = ALL
  sizes = { minimum: 1, preferred: 4096, maximum: 0xffff_ffff }
  /** Returns the behaviour of a connection, by its number from 0. */
  behaviour: (connection: number) => Behaviour = () => ({})
  readonly requests: ServerRequest[] = []
  connections = 0
  readonly #sockets = new Map<number, Socket>()
  #server: Server | undefined
  #port = 0

  constructor(bytes: Uint8Array) {
    this.bytes = bytes
    this.durable = bytes.slice()
  }

  static async listen(sectors = 64): Promise<TestNbdServer> {
    const server = new TestNbdServer(new Uint8Array(sectors * 512))
    await server.start()
    return server
  }

  get uri(): string {
    return `nbd://127.0.0.1:${this.#port}/test`
  }

  get openConnections(): number {
    return this.#sockets.size
  }

  /** Starts listening, on the same port as before a `stop`. */
  start(): Promise<void> {
    const server = createServer({ noDelay: true }, (socket) => this.#accept(socket))
    this.#server = server
    return new Promise((resolve, reject) => {
      server.once('error', reject)
      server.listen(this.#port, '127.0.0.1', () => {
        // a TCP server's address is an AddressInfo
        this.#port = (server.address() as AddressInfo).port
        resolve()
      })
    })
  }

  /** Stops listening and cuts every connection. */
  stop(): Promise<void> {
    this.cut()
    return new Promise((resolve) =>
      this.#server ? this.#server.close(() => resolve()) : resolve(),
    )
  }

  /** Reverts `bytes` to the flushed content, except for sectors that `writtenBack` selects. */
  forget(writtenBack: (sector: number) => boolean = () => false): void {
    for (let at = 0; at < this.bytes.length; at += 512) {
      if (!writtenBack(at / 512)) this.bytes.set(this.durable.subarray(at, at + 512), at)
    }
  }

  /** Stops as if killed by SIGKILL: unflushed content is lost. */
  kill(): Promise<void> {
    this.forget()
    return this.stop()
  }

  /** Cuts the connection of that number, or every connection. */
  cut(connection?: number): void {
    for (const [number, socket] of this.#sockets) {
      if (connection === undefined || connection === number) socket.destroy()
    }
  }

  /** Reads the data of the writes that `onWriteHeader` was called for. */
  resume(): void {
    for (const socket of this.#sockets.values()) socket.resume()
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.stop()
  }

  #accept(socket: Socket): void {
    const connection = this.connections++
    this.#sockets.set(connection, socket)
    socket.on('close', () => this.#sockets.delete(connection))
    socket.on('error', () => socket.destroy())
    new Session(this, socket, connection, this.behaviour(connection)).begin()
  }
}

class Session {
  readonly #server: TestNbdServer
  readonly #socket: Socket
  readonly #connection: number
  readonly #o: Behaviour
  #step: (held: Buffer) => number
  /** Received bytes that aren't parsed yet. `#needed` says how many the next step needs. */
  #held: Buffer[] = []
  #heldBytes = 0
  #needed = 0
  #received = 0
  #sent = 0

  constructor(server: TestNbdServer, socket: Socket, connection: number, o: Behaviour) {
    this.#server = server
    this.#socket = socket
    this.#connection = connection
    this.#o = o
    this.#step = (held) => this.#clientFlags(held)
  }

  begin(): void {
    this.#send(
      this.#o.greeting ??
        encoded(nbdGreeting, {
          magic: NBD_MAGIC,
          style: NBD_OPTS_MAGIC,
          flags: NBD_FLAG.FIXED_NEWSTYLE | NBD_FLAG.NO_ZEROES,
        }),
    )
    this.#socket.on('data', (chunk) => this.#receive(chunk))
  }

  #receive(chunk: Buffer): void {
    const { cutAfterReceiving = Infinity } = this.#o
    const part = chunk.subarray(0, Math.max(0, cutAfterReceiving - this.#received))
    this.#held.push(part)
    this.#heldBytes += part.length
    this.#received += chunk.length
    if (this.#heldBytes >= this.#needed) this.#take(Buffer.concat(this.#held))
    if (this.#received >= cutAfterReceiving) this.#socket.destroy()
  }

  #take(held: Buffer): void {
    let rest = held
    this.#needed = 0
    for (let taken = this.#step(rest); taken > 0; taken = this.#step(rest)) {
      rest = rest.subarray(taken)
    }
    this.#held = [rest]
    this.#heldBytes = rest.length
  }

  #more(needed: number): 0 {
    this.#needed = needed
    return 0
  }

  #send(bytes: Uint8Array): void {
    const room = (this.#o.cutAfterSending ?? Infinity) - this.#sent
    this.#sent += bytes.length
    if (bytes.length < room) this.#socket.write(bytes)
    else this.#socket.write(bytes.subarray(0, Math.max(0, room)), () => this.#socket.destroy())
  }

  /** Each step of the protocol returns how many bytes it has parsed: 0 if it needs more bytes. */
  #clientFlags(held: Buffer): number {
    if (held.length < nbdClientFlags.size) return this.#more(nbdClientFlags.size)
    this.#step = (bytes) => this.#option(bytes)
    return nbdClientFlags.size
  }

  #option(held: Buffer): number {
    if (held.length < nbdOption.size) return this.#more(nbdOption.size)
    const { option, length } = nbdOption.decode(held)
    const end = nbdOption.size + length
    if (held.length < end) return this.#more(end)
    const own = this.#o.onOption?.(option, held.subarray(nbdOption.size, end))
    if (own) {
      this.#send(own)
    } else if (option === NBD_OPT.GO) {
      const { bytes, flags, sizes } = this.#server
      this.#send(
        optionReply(
          option,
          NBD_REP.INFO,
          encoded(nbdInfoExport, { type: NBD_INFO.EXPORT, size: BigInt(bytes.length), flags }),
        ),
      )
      this.#send(
        optionReply(
          option,
          NBD_REP.INFO,
          encoded(nbdInfoBlockSize, { type: NBD_INFO.BLOCK_SIZE, ...sizes }),
        ),
      )
      this.#send(optionReply(option, NBD_REP.ACK))
      this.#step = (rest) => this.#request(rest)
    } else {
      this.#send(optionReply(option, NBD_REP.ERR_UNSUP))
    }
    return end
  }

  #request(held: Buffer): number {
    if (held.length < nbdRequest.size) return this.#more(nbdRequest.size)
    const { type, cookie, offset, length } = nbdRequest.decode(held)
    const end = nbdRequest.size + (type === NBD_CMD.WRITE ? length : 0)
    const request = { connection: this.#connection, type, cookie, offset: Number(offset), length }
    if (this.#o.onWriteHeader && type === NBD_CMD.WRITE) {
      return this.#writeHeader(request, this.#o.onWriteHeader)
    }
    if (held.length < end) return this.#more(end)
    this.#server.requests.push(request)
    if (type === NBD_CMD.DISC) this.#socket.end()
    const answer = (): Uint8Array => this.#store(request, held)
    if (this.#o.onRequest && type !== NBD_CMD.DISC) this.#o.onRequest(request, answer, this.#socket)
    else if (type !== NBD_CMD.DISC) this.#send(answer())
    return end
  }

  #writeHeader(
    request: ServerRequest,
    onWriteHeader: (request: ServerRequest, socket: Socket) => void,
  ): number {
    const end = nbdRequest.size + request.length
    this.#socket.pause()
    onWriteHeader(request, this.#socket)
    this.#step = (held) => {
      if (held.length < end) return this.#more(end)
      this.#store(request, held)
      this.#step = (rest) => this.#request(rest)
      return end
    }
    return this.#more(end)
  }

  #store({ type, cookie, offset, length }: ServerRequest, held: Buffer): Uint8Array {
    const { bytes } = this.#server
    const data = bytes.subarray(offset, offset + length)
    if (type === NBD_CMD.WRITE) data.set(held.subarray(nbdRequest.size, nbdRequest.size + length))
    if (type === NBD_CMD.TRIM) data.fill(0)
    if (type === NBD_CMD.FLUSH) this.#server.durable = bytes.slice()
    return type === NBD_CMD.READ ? Buffer.concat([simpleReply(cookie), data]) : simpleReply(cookie)
  }
}

export function encoded<F extends Fields>(struct: CStruct<F>, value: FieldsOf<F>): Uint8Array {
  const bytes = new Uint8Array(struct.size)
  struct.encode(value, bytes)
  return bytes
}

export const simpleReply = (cookie: bigint, error = 0): Uint8Array =>
  encoded(nbdSimpleReply, { magic: NBD_SIMPLE_REPLY_MAGIC, error, cookie })

export const optionReply = (
  option: number,
  type: number,
  data: Uint8Array = new Uint8Array(0),
): Uint8Array =>
  Buffer.concat([
    encoded(nbdOptionReply, { magic: NBD_REP_MAGIC, option, type, length: data.length }),
    data,
  ])
