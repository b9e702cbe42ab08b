/**
 * A xenstore connection over /dev/xen/xenbus. The driver handles one message per write and ignores
 * the bytes after it (drivers/xen/xenbus/xenbus_dev_frontend.c). So the client's stream is split
 * into messages again.
 *
 * The driver answers some requests by the errno of the write: a watch that xenstored refuses, and a
 * request that it has no memory for. It has then consumed the message, and the connection
 * continues.
 */
import { getSystemErrorName } from 'node:util'
import { XenstoreError } from '@xenkit/hypervisor'
import type { Native, XenbusDevice } from '@xenkit/native'
import {
  XENSTORE_PAYLOAD_MAX,
  XS,
  type XsdError,
  xsdSockmsg,
  XsPacker,
  XsParser,
} from '@xenkit/wire'
import type { XenArena, XenPages } from './arena.ts'
import { openDevice, type XenDevice } from './devices.ts'
import { asNativeError } from './native-error.ts'
import { RequestQueue } from './request-queue.ts'
import type { Transport, XenstoreStream } from './xenstore-stream.ts'

const { size: HEADER_SIZE, at } = xsdSockmsg

interface Messages {
  /** Passes a message to the driver. The callee may keep the message. */
  send(message: Uint8Array): void
  /** Answers, with an error, a request that the driver must not get. */
  refuse(reqId: number, txId: number, errno: XsdError): void
}

/**
 * Most payload bytes per message: the driver's buffer of XENSTORE_PAYLOAD_MAX bytes holds the
 * header too. The driver fails longer messages with EINVAL and sends no reply.
 */
const PAYLOAD_MAX = XENSTORE_PAYLOAD_MAX - HEADER_SIZE

/**
 * Checks for requests that the driver would handle differently from xenstored.
 * @returns the errno name to answer with; undefined if the driver can have the request
 */
function faultOf(type: number, payload: Uint8Array): XsdError | undefined {
  // The connection belongs to the kernel: a reset would end the watches of the kernel's own
  // drivers.
  if (type === XS.RESET_WATCHES) return 'EACCES'
  if (payload.length > PAYLOAD_MAX) return 'E2BIG'
  // The driver sets watches itself and ignores a depth. A xenstored without depths answers EINVAL,
  // and the client then filters events itself: answer the same.
  if (type === XS.WATCH && payload.reduce((nuls, byte) => nuls + Number(byte === 0), 0) > 2) {
    return 'EINVAL'
  }
  return undefined
}

/** Returns a parser that splits a stream into whole messages. */
export function messageCutter(messages: Messages): XsParser {
  return new XsParser((type, reqId, txId, payload) => {
    const fault = faultOf(type, payload)
    if (fault) return messages.refuse(reqId, txId, fault)
    const message = new Uint8Array(HEADER_SIZE + payload.length)
    const header = new DataView(message.buffer)
    header.setUint32(at.type, type, true)
    header.setUint32(at.req_id, reqId, true)
    header.setUint32(at.tx_id, txId, true)
    header.setUint32(at.len, payload.length, true)
    message.set(payload, HEADER_SIZE)
    messages.send(message)
  })
}

/** The transport over /dev/xen/xenbus. */
export class XenbusTransport implements Transport {
  readonly #stream: XenstoreStream
  readonly #page: XenPages
  readonly #device: XenbusDevice
  readonly #requests = new RequestQueue((message) => this.#write(message))
  readonly #cutter = messageCutter({
    send: (message) => this.#requests.push(message),
    refuse: (reqId, txId, errno) => this.#refuse(reqId, txId, errno),
  })
  readonly #replies = new XsParser((type, reqId, txId, payload) => {
    this.#toClient.append(type, reqId, txId, '', payload)
    if (type !== XS.WATCH_EVENT) this.#requests.answered()
  })
  /**
   * Replies for the client, as whole messages: replies of this class must go between two of the
   * driver's.
   */
  readonly #toClient = new XsPacker()

  /** @throws NotAvailableError if /dev/xen/xenbus can't be opened */
  constructor(native: Native, arena: XenArena, stream: XenstoreStream, device: XenDevice) {
    this.#stream = stream
    this.#page = arena.allocate(1)
    try {
      const { byteOffset } = this.#page
      const onData = (count: number): void => this.#receive(count)
      const open = (path: string) => new native.XenbusDevice(arena.native, path, byteOffset, onData)
      this.#device = openDevice(device, open)
    } catch (error) {
      this.#page.close()
      throw error
    }
  }

  send(bytes: Uint8Array): void {
    this.#cutter.push(bytes)
  }

  shut(): void {
    this.#device.close()
    this.#page.close()
  }

  #write(message: Uint8Array): void {
    try {
      this.#device.write(message)
    } catch (error) {
      const { errno } = asNativeError(error)
      const header = new DataView(message.buffer)
      this.#refuse(header.getUint32(at.req_id, true), header.getUint32(at.tx_id, true), errno)
      queueMicrotask(() => this.#attempt(() => this.#requests.answered()))
    }
  }

  #refuse(reqId: number, txId: number, errno: string): void {
    this.#toClient.append(XS.ERROR, reqId, txId, `${errno}\0`)
    queueMicrotask(() => this.#deliver()) // after the client's write has returned
  }

  /** @param count number of new bytes in the page, or a negative errno */
  #receive(count: number): void {
    this.#attempt(() => {
      if (count < 0) throw kernelError(count)
      this.#replies.push(this.#page.bytes.subarray(0, count))
      this.#deliver()
    })
  }

  #deliver(): void {
    if (this.#toClient.length > 0) this.#stream.received(this.#toClient.take().slice())
  }

  /** Runs a step. If the step fails, the stream ends with its error. */
  #attempt(step: () => void): void {
    try {
      step()
    } catch (error) {
      this.#stream.lost(error instanceof Error ? error : new Error(String(error)))
    }
  }
}

function kernelError(errno: number): XenstoreError {
  const name = getSystemErrorName(errno)
  return new XenstoreError(`the kernel's connection to xenstored failed: ${name}`, { errno: name })
}
