/**
 * The xenstore port: the unix socket of xenstored where there is one, that is where xenstored runs, else
 * the kernel's own connection, /dev/xen/xenbus.
 */
import type { Socket } from 'node:net'
import { type ByteStream, type ByteStreamReceiver, HypervisorClosedError, NotAvailableError, type XenstorePort } from '@xenkit/hypervisor'
import type { Native } from '@xenkit/native'
import type { XenArena } from './arena.ts'
import { XenbusTransport } from './xenbus-transport.ts'
import { connectSocket, socketTransport, START_XENSTORED } from './xenstored-socket.ts'
import { XenstoreStream } from './xenstore-stream.ts'

/** Where xenstored listens: the first that answers. XENSTORED_PATH, as libxenstore has it, allows no other. */
export function socketPaths(): readonly string[] {
  const chosen = process.env['XENSTORED_PATH']
  return chosen === undefined ? ['/run/xenstored/socket', '/var/run/xenstored/socket'] : [chosen]
}

/** @returns undefined where there is no socket at all. @throws NotAvailableError for one that can't be used */
export async function findSocket(): Promise<Socket | undefined> {
  for (const path of socketPaths()) {
    try {
      return await connectSocket(path)
    } catch (error) {
      const isAbsent = error instanceof NotAvailableError && error.details['errno'] === 'ENOENT'
      if (!isAbsent || process.env['XENSTORED_PATH'] !== undefined) throw error
    }
  }
  return undefined
}

export class XenXenstore implements XenstorePort {
  readonly #native: Native
  readonly #arena: XenArena
  readonly #streams = new Set<XenstoreStream>()
  #closed = false

  constructor(native: Native, arena: XenArena) {
    this.#native = native
    this.#arena = arena
  }

  async connect(receiver: ByteStreamReceiver): Promise<ByteStream> {
    const socket = await findSocket()
    if (this.#closed) {
      socket?.destroy()
      throw new HypervisorClosedError('the hypervisor was closed in this thread')
    }
    const connect = (made: XenstoreStream) => (socket ? socketTransport(socket, made) : this.#device(made))
    const stream = new XenstoreStream(receiver, connect, (ended) => this.#streams.delete(ended))
    this.#streams.add(stream)
    return stream
  }

  #device(stream: XenstoreStream): XenbusTransport {
    try {
      return new XenbusTransport(this.#native, this.#arena, stream)
    } catch (error) {
      if (!(error instanceof NotAvailableError)) throw error
      throw new NotAvailableError(`no xenstored: nothing at ${socketPaths().map((path) => `"${path}"`).join(' or ')}, and ${error.message}; ${START_XENSTORED}`, error.details, { cause: error })
    }
  }

  /** Ends every connection; their receivers hear of it. */
  close(): void {
    this.#closed = true
    for (const stream of this.#streams) stream.lost(new HypervisorClosedError('the hypervisor was closed in this thread'))
  }
}
