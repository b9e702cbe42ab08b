/** Xenstore connections over xenstored's unix socket. */
import { createConnection, type Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { NotAvailableError, XenstoreError, type XenstorePort } from '@xenkit/hypervisor'
import { codeOf } from './native-error.ts'
import { type Transport, XenstoreStream } from './xenstore-stream.ts'

/** Advice for a machine on which xenstored doesn't run. */
export const START_XENSTORED = 'start xenstored (in dom0: systemctl start xenstored, or xencommons)'

/** Milliseconds between attempts while xenstored's queue of unaccepted connections is full. */
const QUEUE_RETRY_MS = 10
/** Milliseconds after which a full queue is an error. */
const QUEUE_LIMIT_MS = 10_000

/**
 * Connects to the socket, and waits while the queue of unaccepted connections is full. C
 * xenstored's queue has room for two connections. When it is full, Linux answers EAGAIN to a
 * non-blocking connect.
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
  return errno === 'EAGAIN' ? 'it runs but accepts no connection, see its log' : START_XENSTORED
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

/** Returns the transport over a connected socket. */
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
 * Returns xenstore over a unix socket, for programs that need nothing else of Xen.
 * @param path socket of any xenstored; it gives domain 0's rights to whoever may connect
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
