/** xenstored's unix socket as a transport. */
import { createConnection, type Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { NotAvailableError, XenstoreError, type XenstorePort } from '@xenkit/hypervisor'
import { codeOf } from './native-error.ts'
import { type Transport, XenstoreStream } from './xenstore-stream.ts'

export const START_XENSTORED = 'start xenstored (in dom0: systemctl start xenstored, or xencommons)'

/**
 * Time between tries while the queue is full in which connections wait for xenstored to accept
 * them.
 */
const QUEUE_RETRY_MS = 10
/** How long it may be full. */
const QUEUE_LIMIT_MS = 10_000

/**
 * Waits while others wait to be accepted: C xenstored has room for two of them, and Linux answers
 * the next one EAGAIN where a blocking connect would wait.
 * @throws NotAvailableError whose `details.errno` is `ENOENT`, `ECONNREFUSED`, `EACCES` ...
 */
export async function connectSocket(path: string): Promise<Socket> {
  const limit = performance.now() + QUEUE_LIMIT_MS
  for (;;) {
    try {
      return await connectOnce(path)
    } catch (cause) {
      const errno = codeOf(cause)
      if (errno !== 'EAGAIN' || performance.now() > limit) {
        const what = `cannot connect to xenstored at "${path}" (${errno}): ${fixOf(errno)}`
        throw new NotAvailableError(what, { path, errno }, { cause })
      }
    }
    await sleep(QUEUE_RETRY_MS)
  }
}

function fixOf(errno: string | undefined): string {
  if (errno === 'EACCES') return 'run this as root'
  return errno === 'EAGAIN' ? 'it accepts no connection, see what it does' : START_XENSTORED
}

function connectOnce(path: string): Promise<Socket> {
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
  socket.on('close', () =>
    stream.lost(new XenstoreError(`xenstored ended the connection: ${errno}`, { errno })),
  )
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
      return new XenstoreStream(
        receiver,
        (stream) => socketTransport(socket, stream),
        () => {},
      )
    },
  }
}
