/**
 * A disk that an NBD server exports. nbdkit and qemu-nbd make exports of qcow2 files, Ceph RBD,
 * iSCSI and much else.
 */
import type { ConnectionOptions } from 'node:tls'
import { expectInteger } from '@xenkit/hypervisor'
import { NBD_CMD } from './protocol.ts'
import {
  type BlockStore,
  LEAVES_BUFFERS,
  hintedPhysicalSize,
  byteLength,
} from '@xenkit/block-store'
import { slice } from '../buffers.ts'
import { all } from '../layer.ts'
import { Links, type NbdEvent } from './links.ts'
import { parseNbdUri } from './uri.ts'

/** Options of `openNbdStore`. */
export interface NbdStoreOptions {
  /** Serve the export read-only, even if it can be written. Default false. */
  readonly readOnly?: boolean
  /**
   * Number of connections, 1..16, default 1. More than one is opened only if the server says that a
   * flush on one connection covers the writes of all.
   */
  readonly connections?: number
  /**
   * Options of node:tls for `nbds://` and `nbds+unix://` (`ca`, `cert`, `key`, `servername` ...).
   */
  readonly tls?: ConnectionOptions
  /**
   * Milliseconds that the server may take for each request, even if it answers others meanwhile,
   * and for the handshake. After that the connection counts as lost, and the request is sent on
   * another connection. 1..2^31-1, default 60000.
   */
  readonly timeoutMs?: number
  /**
   * Milliseconds after a request has lost its connection in which it may be sent on another one,
   * where it has `timeoutMs` again. After that it fails. 0..2^31-1 or Infinity, default 60000.
   */
  readonly reconnectMs?: number
  /** Called when a connection is lost, can't be opened, or is open again. */
  readonly onEvent?: (event: NbdEvent) => void
}

/** An open export. Stopping a disk that it serves doesn't close it: call `close`. */
export interface NbdStore extends BlockStore, AsyncDisposable {
  readonly uri: string
  /**
   * Disconnects once all requests in flight have settled; requests that wait for a lost server
   * fail. Idempotent; later calls of the store reject.
   */
  close(): Promise<void>
}

const MAX_TIMER_MS = 2 ** 31 - 1
const MAX_CONNECTIONS = 16
/** Most bytes of one trim: its length has 32 bits. */
const MAX_TRIM = 2 ** 31

/**
 * Opens an export for `serveVbd`: `nbd://host:port/export`, `nbd+unix:///export?socket=PATH`, or
 * either as `nbds` for TLS.
 * @throws TypeError, RangeError if the URI or an option is wrong
 * @throws NbdError if no server answers, it refuses, or a guest can't have such a disk: the text
 *   says what to do
 */
export async function openNbdStore(uri: string, o: NbdStoreOptions = {}): Promise<NbdStore> {
  const { connections = 1, timeoutMs = 60_000, reconnectMs = 60_000 } = o
  const target = parseNbdUri(uri)
  expectInteger('connections', connections, 1, MAX_CONNECTIONS)
  expectInteger('timeoutMs', timeoutMs, 1, MAX_TIMER_MS)
  if (reconnectMs !== Infinity) expectInteger('reconnectMs', reconnectMs, 0, MAX_TIMER_MS)
  if (o.tls && !target.tls) {
    throw new TypeError(`"tls" is given, but "${uri}" is plain text: use nbds:// or nbds+unix://`)
  }
  const links = await Links.open(target, connections, {
    tls: o.tls ?? {},
    timeoutMs,
    reconnectMs,
    onEvent: o.onEvent ?? (() => {}),
  })
  return nbdStore(uri, links, o.readOnly ?? false)
}

function nbdStore(uri: string, links: Links, readOnly: boolean): NbdStore {
  const { sectorSize, preferred, maximum, writable, canFlush, canTrim } = links.geometry
  const discardLimits = { granularity: preferred, alignment: 0, secure: false, maximum: MAX_TRIM }
  const write = Object.assign(
    (sector: number, from: Uint8Array[]): Promise<void> =>
      transfer(links, NBD_CMD.WRITE, sector * 512, from, maximum),
    LEAVES_BUFFERS,
  )
  const discard = (sector: number, count: number): Promise<void> => {
    const end = (sector + count) * 512
    const offsets = Array.from(
      { length: Math.ceil((count * 512) / MAX_TRIM) },
      (_, i) => sector * 512 + i * MAX_TRIM,
    )
    return all(
      offsets.map((offset) =>
        links.submit(NBD_CMD.TRIM, offset, Math.min(MAX_TRIM, end - offset), []),
      ),
    )
  }
  return {
    uri,
    get sectors() {
      return links.geometry.sectors
    },
    sectorSize,
    physicalSectorSize: hintedPhysicalSize(preferred, sectorSize),
    async read(sector, into) {
      await transfer(links, NBD_CMD.READ, sector * 512, into, maximum)
      return { bytesRead: byteLength(into) }
    },
    ...(writable && !readOnly && { write }),
    ...(canFlush && !readOnly && { flush: () => links.flush() }),
    ...(canTrim && !readOnly && { discard, discardLimits }),
    onResize: (listener) => links.onGrown(listener),
    close: () => links.close(),
    [Symbol.asyncDispose]: () => links.close(),
  }
}

/** Moves data by one request, or by several if the server's maximum is smaller, which is rare. */
function transfer(
  links: Links,
  type: number,
  offset: number,
  buffers: readonly Uint8Array[],
  maximum: number,
): Promise<void> {
  const length = byteLength(buffers)
  if (length <= maximum) return links.submit(type, offset, length, buffers)
  const pieces: Promise<void>[] = []
  for (let at = 0; at < length; at += maximum) {
    const size = Math.min(maximum, length - at)
    pieces.push(links.submit(type, offset + at, size, slice(buffers, at, size)))
  }
  return all(pieces)
}
