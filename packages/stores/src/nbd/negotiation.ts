/**
 * The fixed newstyle handshake: STARTTLS if the URI says so, then GO with the export's name. It
 * requests the server's block sizes, which obliges the client to respect them.
 *
 * Structured replies aren't negotiated. They would help with sparse reads and with errors in the
 * middle of a read, but need a second parser. A guest's reads are short and fill whole pages.
 */
import type { ConnectionOptions } from 'node:tls'
import { type CStruct, type Fields, type FieldsOf } from '@xenkit/wire'
import {
  nbdOptionReply,
  nbdOption,
  nbdInfoExport,
  nbdInfoBlockSize,
  nbdInfo,
  nbdGreeting,
  nbdClientFlags,
  NBD_REP_MAGIC,
  NBD_REP_FLAG_ERROR,
  NBD_REP,
  NBD_OPTS_MAGIC,
  NBD_OPT,
  NBD_MAX_STRING,
  NBD_MAX_PAYLOAD,
  NBD_MAGIC,
  NBD_INFO,
  NBD_FLAG,
  NBD_CLISERV_MAGIC,
} from './protocol.ts'
import { Inbox } from './inbox.ts'
import { NbdError, NbdProtocolError, expectField } from './nbd-error.ts'
import type { Transport } from './transport.ts'
import type { NbdTarget } from './uri.ts'

/** What the server reports of an export; sizes in bytes. */
export interface ExportInfo {
  readonly size: bigint
  /** Bits of NBD_TRANSMISSION. */
  readonly flags: number
  /** Unit of offsets and lengths, in bytes. */
  readonly minimum: number
  readonly preferred: number
  /** Most data of one request. */
  readonly maximum: number
}

/** Sizes that proto.md has a client assume if the server reports none. */
const DEFAULT_SIZES = { minimum: 1, preferred: 4096, maximum: NBD_MAX_PAYLOAD }
/** Largest `minimum` that the protocol allows. */
const MAX_MINIMUM = 65536
/** Bytes of GO's data without the name: the name's length, the number of infos, the info. */
const GO_OVERHEAD = 4 + 2 + 2

/**
 * Makes the handshake. It never settles if the connection is lost.
 * @throws NbdError if the server refuses: the text says what
 * @throws NbdProtocolError if the server breaks the protocol
 */
export async function negotiate(
  transport: Transport,
  target: NbdTarget,
  tls: ConnectionOptions,
): Promise<ExportInfo> {
  const inbox = new Inbox()
  transport.onBytes = (bytes) => inbox.push(bytes)
  const handshake = new Handshake(transport, inbox, target)
  await handshake.greet()
  if (target.tls) await handshake.startTls(tls)
  const info = await handshake.go()
  handshake.expectNothingMore()
  return info
}

class Handshake {
  readonly #transport: Transport
  readonly #inbox: Inbox
  readonly #target: NbdTarget

  constructor(transport: Transport, inbox: Inbox, target: NbdTarget) {
    this.#transport = transport
    this.#inbox = inbox
    this.#target = target
  }

  async greet(): Promise<void> {
    const { magic, style, flags } = await this.#receive(nbdGreeting)
    expectField('magic', magic, NBD_MAGIC)
    if (style === NBD_CLISERV_MAGIC) {
      throw this.#error('the server speaks oldstyle NBD only: it needs one that speaks newstyle')
    }
    expectField('style', style, NBD_OPTS_MAGIC)
    if ((flags & NBD_FLAG.FIXED_NEWSTYLE) === 0) {
      throw this.#error("the server doesn't speak fixed newstyle NBD: it is older than 2012")
    }
    this.#send(
      encoded(nbdClientFlags, { flags: NBD_FLAG.FIXED_NEWSTYLE | (flags & NBD_FLAG.NO_ZEROES) }),
    )
  }

  /**
   * Starts TLS. Bytes that came early in plain text must not count as encrypted: they are refused.
   */
  async startTls(options: ConnectionOptions): Promise<void> {
    this.#option(NBD_OPT.STARTTLS, new Uint8Array(0))
    const { type, data } = await this.#reply(NBD_OPT.STARTTLS)
    if (type !== NBD_REP.ACK) throw this.#refused(type, data)
    this.expectNothingMore()
    await this.#transport.startTls(options)
  }

  async go(): Promise<ExportInfo> {
    const name = new TextEncoder().encode(this.#target.exportName)
    if (name.length > NBD_MAX_STRING) {
      throw this.#error(`the export's name expected 0..${NBD_MAX_STRING} bytes, got ${name.length}`)
    }
    const data = new Uint8Array(GO_OVERHEAD + name.length)
    const view = new DataView(data.buffer)
    view.setUint32(0, name.length)
    data.set(name, 4)
    view.setUint16(4 + name.length, 1)
    view.setUint16(6 + name.length, NBD_INFO.BLOCK_SIZE)
    this.#option(NBD_OPT.GO, data)
    return this.#infos()
  }

  expectNothingMore(): void {
    const { length } = this.#inbox
    if (length > 0) {
      throw new NbdProtocolError(`the nbd server sent ${length} bytes that nobody asked for`, {
        field: 'length',
        value: length,
      })
    }
  }

  async #infos(): Promise<ExportInfo> {
    let about: FieldsOf<typeof nbdInfoExport.properties> | undefined
    let sizes = DEFAULT_SIZES
    for (;;) {
      const { type, data } = await this.#reply(NBD_OPT.GO)
      if (type === NBD_REP.ACK) break
      if (type !== NBD_REP.INFO) throw this.#refused(type, data)
      const info = decoded(nbdInfo, data.subarray(0, nbdInfo.size)).type
      if (info === NBD_INFO.EXPORT) about = decoded(nbdInfoExport, data)
      if (info === NBD_INFO.BLOCK_SIZE) sizes = blockSizes(data)
    }
    if (!about) {
      throw new NbdProtocolError('the nbd server said nothing of the export', {
        field: 'NBD_INFO_EXPORT',
        value: undefined,
      })
    }
    return { size: about.size, flags: about.flags, ...sizes }
  }

  async #reply(option: number): Promise<{ type: number; data: Uint8Array }> {
    const reply = await this.#receive(nbdOptionReply)
    expectField('magic', reply.magic, NBD_REP_MAGIC)
    expectField('option', reply.option, option)
    return { type: reply.type, data: await this.#inbox.take(reply.length) }
  }

  #refused(type: number, data: Uint8Array): Error {
    if (type < NBD_REP_FLAG_ERROR) {
      return new NbdProtocolError(`nbd field "type" expected NBD_REP_ACK, got ${type}`, {
        field: 'type',
        value: type,
      })
    }
    const words = new TextDecoder().decode(data.subarray(0, NBD_MAX_STRING))
    return this.#error(
      `${this.#meaning(type)}${words === '' ? '' : `: the server says ${JSON.stringify(words)}`}`,
    )
  }

  #meaning(type: number): string {
    if (type === NBD_REP.ERR_UNKNOWN) return `the server has no export "${this.#target.exportName}"`
    if (type === NBD_REP.ERR_TLS_REQD) return 'the server demands TLS: use nbds:// or nbds+unix://'
    if (type === NBD_REP.ERR_UNSUP) {
      return this.#target.tls
        ? 'the server has no TLS: use nbd:// or nbd+unix:// if plain text will do'
        : 'the server is too old: it lacks NBD_OPT_GO'
    }
    if (type === NBD_REP.ERR_SHUTDOWN) return 'the server is being shut down'
    return `the server refused with ${names.get(type) ?? `0x${type.toString(16)}`}`
  }

  #error(message: string): NbdError {
    return new NbdError(message, { uri: this.#target.uri })
  }

  async #receive<F extends Fields>(struct: CStruct<F>): Promise<FieldsOf<F>> {
    return struct.decode(await this.#inbox.take(struct.size))
  }

  #option(option: number, data: Uint8Array): void {
    this.#send(encoded(nbdOption, { magic: NBD_OPTS_MAGIC, option, length: data.length }), data)
  }

  #send(...chunks: Uint8Array[]): void {
    this.#transport.write(chunks, () => {})
  }
}

const names = new Map<number, string>(
  Object.entries(NBD_REP).map(([name, type]) => [type, `NBD_REP_${name}`]),
)

function blockSizes(data: Uint8Array): typeof DEFAULT_SIZES {
  const { minimum, preferred, maximum } = decoded(nbdInfoBlockSize, data)
  expectSize(
    'minimum',
    minimum,
    isPowerOfTwo(minimum) && minimum <= MAX_MINIMUM,
    `a power of two up to ${MAX_MINIMUM}`,
  )
  expectSize(
    'preferred',
    preferred,
    isPowerOfTwo(preferred) && preferred >= minimum,
    `a power of two from ${minimum}`,
  )
  expectSize('maximum', maximum, maximum >= minimum, `at least ${minimum}`)
  return { minimum, preferred, maximum }
}

function expectSize(field: string, value: number, right: boolean, expected: string): void {
  if (!right) {
    throw new NbdProtocolError(`nbd field "${field}" expected ${expected}, got ${value}`, {
      field,
      value,
    })
  }
}

const isPowerOfTwo = (value: number): boolean => value > 0 && (value & (value - 1)) === 0

function encoded<F extends Fields>(struct: CStruct<F>, value: FieldsOf<F>): Uint8Array {
  const bytes = new Uint8Array(struct.size)
  struct.encode(value, bytes)
  return bytes
}

function decoded<F extends Fields>(struct: CStruct<F>, data: Uint8Array): FieldsOf<F> {
  expectField('length', data.length, struct.size)
  return struct.decode(data)
}
