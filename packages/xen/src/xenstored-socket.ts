/** xenstored's unix socket as a transport. */
import { createConnection, type Socket } from 'node:net'
import { XenstoreError } from '@xenkit/hypervisor'
import { codeOf } from './native-error.ts'
import type { Transport, XenstoreStream } from './xenstore-stream.ts'

/** @throws what `connect` gives, an Error whose code is `ENOENT`, `ECONNREFUSED`, `EACCES` ... */
export function connectSocket(path: string): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = createConnection(path)
    socket.once('error', reject)
    socket.once('connect', () => {
      socket.off('error', reject)
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
