/** xenstored's unix socket as a transport. */
import { createConnection, type Socket } from 'node:net'
import { NotAvailableError, XenstoreError, type XenstorePort } from '@xenkit/hypervisor'
import { codeOf } from './native-error.ts'
import { type Transport, XenstoreStream } from './xenstore-stream.ts'

export const START_XENSTORED = 'start xenstored (in dom0: systemctl start xenstored, or xencommons)'

/** @throws NotAvailableError whose `details.errno` is `ENOENT`, `ECONNREFUSED`, `EACCES` ... */
export function connectSocket(path: string): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const fail = (error: Error): void => {
      const errno = codeOf(error)
      const fix = errno === 'EACCES' ? 'run this as root' : START_XENSTORED
      reject(new NotAvailableError(`cannot connect to xenstored at "${path}" (${errno}): ${fix}`, { path, errno }, { cause: error }))
    }
    const socket = createConnection(path)
    socket.once('error', fail)
    socket.once('connect', () => {
      socket.off('error', fail)
      resolve(socket)
    })
  })
}

export function socketTransport(socket: Socket, stream: XenstoreStream): Transport {
  let errno = 'EPIPE'
  socket.on('data', (bytes) => stream.received(bytes))
  socket.on('error', (error) => (errno = codeOf(error) ?? errno))
  socket.on('close', () => stream.lost(new XenstoreError(`xenstored ended the connection: ${errno}`, { errno })))
  return {
    send: (bytes) => void socket.write(Uint8Array.from(bytes)),
    shut: () => void socket.destroy(),
  }
}

/**
 * xenstored by its unix socket alone, for programs that need nothing else of Xen.
 * @param path of the socket of any xenstored, which gives domain 0's rights to whoever may connect
 */
export function xenstoreSocket(path: string): XenstorePort {
  return {
    async connect(receiver) {
      const socket = await connectSocket(path)
      return new XenstoreStream(receiver, (stream) => socketTransport(socket, stream), () => {})
    },
  }
}
