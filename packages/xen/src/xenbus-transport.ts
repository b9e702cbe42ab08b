/**
 * /dev/xen/xenbus as a transport. The driver acts on one message per write and forgets the bytes after
 * it (drivers/xen/xenbus/xenbus_dev_frontend.c), so the stream is cut into messages again.
 */
import { getSystemErrorName } from 'node:util'
import { PAGE_SIZE, XenstoreError } from '@xenkit/hypervisor'
import type { Native } from '@xenkit/native'
import { XENSTORE_PAYLOAD_MAX, XS, type XsdError, xsdSockmsg, XsPacker, XsParser } from '@xenkit/wire'
import type { XenArena } from './arena.ts'
import { DEVICES, openDevice } from './devices.ts'
import { RequestQueue } from './request-queue.ts'
import type { Transport, XenstoreStream } from './xenstore-stream.ts'

const { size: HEADER_SIZE, at } = xsdSockmsg

interface Messages {
  /** `message` is the callee's. */
  send(message: Uint8Array): void
  /** A request that the driver must not get. */
  refuse(reqId: number, txId: number, errno: XsdError): void
}

/** The driver's buffer of XENSTORE_PAYLOAD_MAX bytes holds the header, too. It ends what doesn't fit with EINVAL, the reply to nothing. */
const PAYLOAD_MAX = XENSTORE_PAYLOAD_MAX - HEADER_SIZE

/** What the driver would do something else with than xenstored, as errno of the reply that stands for it. */
function faultOf(type: number, payload: Uint8Array): XsdError | undefined {
  // The connection is the kernel's: this would end the watches of its own drivers.
  if (type === XS.RESET_WATCHES) return 'EACCES'
  if (payload.length > PAYLOAD_MAX) return 'E2BIG'
  // The driver sets watches itself and ignores a depth, as if there were none: answered like a xenstored without depths.
  if (type === XS.WATCH && payload.reduce((nuls, byte) => nuls + Number(byte === 0), 0) > 2) return 'EINVAL'
  return undefined
}

/** Cuts what is pushed into whole messages. */
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

/** @throws NotAvailableError without the device */
export function xenbusTransport(native: Native, arena: XenArena, stream: XenstoreStream): Transport {
  const page = arena.allocate(1)
  const bytes = new Uint8Array(arena.buffer, page.byteOffset, PAGE_SIZE)
  try {
    const device = openDevice(DEVICES.xenbus, (path) => new native.XenbusDevice(arena.native, path, page.byteOffset, (count) => receive(count)))
    const requests = new RequestQueue((message) => device.write(message))
    const cutter = messageCutter({
      send: (message) => requests.push(message),
      refuse(reqId, txId, errno) {
        const packer = new XsPacker()
        packer.append(XS.ERROR, reqId, txId, `${errno}\0`)
        queueMicrotask(() => stream.received(packer.take())) // not while the client writes
      },
    })
    const receive = (count: number): void => {
      try {
        if (count < 0) throw kernelError(count)
        requests.received(bytes.subarray(0, count))
        stream.received(bytes.subarray(0, count))
      } catch (error) {
        stream.lost(error instanceof Error ? error : new Error(String(error)))
      }
    }
    return {
      send: (sent) => cutter.push(sent),
      shut: () => {
        device.close()
        page.close()
      },
    }
  } catch (error) {
    page.close()
    throw error
  }
}

function kernelError(errno: number): XenstoreError {
  const name = getSystemErrorName(errno)
  return new XenstoreError(`the kernel's connection to xenstored failed: ${name}`, { errno: name })
}
