/**
 * The hypervisor port's xenstore. It connects to xenstored's unix socket if xenstored runs in this
 * domain. Otherwise it uses the kernel's connection, /dev/xen/xenbus.
 */
import { stat } from 'node:fs/promises'
import { Socket } from 'node:net'
import {
  type ByteStream,
  type ByteStreamReceiver,
  HypervisorClosedError,
  NotAvailableError,
  type XenstorePort,
} from '@xenkit/hypervisor'
import type { Native } from '@xenkit/native'
import type { XenArena } from './arena.ts'
import { DEVICES, type XenDevice } from './devices.ts'
import { XenbusTransport } from './xenbus-transport.ts'
import { connectSocket, socketTransport, START_XENSTORED } from './xenstored-socket.ts'
import { type Transport, XenstoreStream } from './xenstore-stream.ts'

/**
 * Returns the paths of sockets to try before the kernel's device. XENSTORED_PATH replaces them all,
 * as in libxenstore, and may name a device.
 */
export function xenstoredPaths(): readonly string[] {
  const chosen = process.env['XENSTORED_PATH']
  return chosen === undefined ? ['/run/xenstored/socket', '/var/run/xenstored/socket'] : [chosen]
}

/**
 * Returns a connection to the first socket that answers, or the device to open instead.
 * @throws NotAvailableError for a socket that can't be used
 */
export async function findXenstored(): Promise<Socket | XenDevice> {
  for (const path of xenstoredPaths()) {
    if (await isDevice(path)) return { ...DEVICES.xenbus, path }
    try {
      return await connectSocket(path)
    } catch (error) {
      const isAbsent = error instanceof NotAvailableError && error.details['errno'] === 'ENOENT'
      if (!isAbsent || process.env['XENSTORED_PATH'] !== undefined) throw error
    }
  }
  return DEVICES.xenbus
}

const isDevice = (path: string): Promise<boolean> =>
  stat(path).then(
    (status) => status.isCharacterDevice(),
    () => false,
  )

/** Connections to xenstored. Closing the hypervisor ends them. */
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
    const found = await findXenstored()
    if (this.#closed) {
      if (found instanceof Socket) found.destroy()
      throw new HypervisorClosedError('the hypervisor was closed in this thread')
    }
    const connect = (made: XenstoreStream) =>
      found instanceof Socket ? socketTransport(found, made) : this.#open(found, made)
    const stream = new XenstoreStream(receiver, connect, (ended) => this.#streams.delete(ended))
    this.#streams.add(stream)
    return stream
  }

  #open(device: XenDevice, stream: XenstoreStream): Transport {
    try {
      return new XenbusTransport(this.#native, this.#arena, stream, device)
    } catch (error) {
      if (!(error instanceof NotAvailableError)) throw error
      const paths = xenstoredPaths()
        .map((path) => `"${path}"`)
        .join(' or ')
      const why = `no socket at ${paths}, and ${error.message}`
      const message = `no xenstored: ${why}; ${START_XENSTORED}`
      throw new NotAvailableError(message, error.details, { cause: error })
    }
  }

  /** Ends every connection, and reports the end to the connections' receivers. */
  close(): void {
    this.#closed = true
    for (const stream of this.#streams) {
      stream.lost(new HypervisorClosedError('the hypervisor was closed in this thread'))
    }
  }
}
