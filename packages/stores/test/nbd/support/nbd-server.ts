/**
 * An NBD server of a test's own, for what a real one doesn't do: it drops, delays, reorders, lies.
 */
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
  /** Of the connection, from 0. */
  readonly connection: number
  readonly type: number
  readonly cookie: bigint
  readonly offset: number
  readonly length: number
}

export interface Behaviour {
  /** Sent instead of the greeting. */
  readonly greeting?: Uint8Array
  /** Answers an option instead of the server. */
  readonly onOption?: (option: number, data: Buffer) => Uint8Array | undefined
  /** Bytes after which the connection is cut. */
  readonly cutAfterSending?: number
  readonly cutAfterReceiving?: number
  /** Takes a request over: gets what the answer would be and how to send bytes. */
  readonly onRequest?: (request: ServerRequest, answer: () => Uint8Array, socket: Socket) => void
  /**
   * Called when the header of a write is there; its data isn't read until `resume`, and the server
   * doesn't answer it.
   */
  readonly onWriteHeader?: (request: ServerRequest, socket: Socket) => void
}

/** Bytes that the greeting and an answer to GO take: a cut after as many hits the first reply. */
export const HANDSHAKE_BYTES =
  nbdGreeting.size + 3 * nbdOptionReply.size + nbdInfoExport.size + nbdInfoBlockSize.size

const ALL =
  NBD_TRANSMISSION.HAS_FLAGS |
  NBD_TRANSMISSION.SEND_FLUSH |
  NBD_TRANSMISSION.SEND_TRIM |
  NBD_TRANSMISSION.CAN_MULTI_CONN

export class TestNbdServer implements AsyncDisposable {
  bytes: Uint8Array
  /** What of it was flushed: all that there is after `kill`. */
  durable: Uint8Array
  flags: number = ALL
  sizes = { minimum: 1, preferred: 4096, maximum: 0xffff_ffff }
  /** How the connection with that number, from 0, is treated. */
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

  /** Listens, on the same port as before. */
  start(): Promise<void> {
    const server = createServer({ noDelay: true }, (socket) => this.#accept(socket))
    this.#server = server
    return new Promise((resolve, reject) => {
      server.once('error', reject)
      server.listen(this.#port, '127.0.0.1', () => {
        this.#port = (server.address() as AddressInfo).port // of a TCP server, that it is
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

  /** Loses what wasn't flushed, but for those sectors that had been written back. */
  forget(writtenBack: (sector: number) => boolean = () => false): void {
    for (let at = 0; at < this.bytes.length; at += 512) {
      if (!writtenBack(at / 512)) this.bytes.set(this.durable.subarray(at, at + 512), at)
    }
  }

  /** Stops as if by SIGKILL. */
  kill(): Promise<void> {
    this.forget()
    return this.stop()
  }

  /** Cuts that connection, or every one. */
  cut(connection?: number): void {
    for (const [number, socket] of this.#sockets) {
      if (connection === undefined || connection === number) socket.destroy()
    }
  }

  /** Reads the data of the writes that `onWriteHeader` was called of. */
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
  /** What arrived and wasn't taken, and how much of it the step that is next needs. */
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

  /** Steps answer how many bytes they took, none if there have to be more. */
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
