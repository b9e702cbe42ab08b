/** A xenstored on a real unix socket, so that Xen's own tools (`XENSTORED_PATH=... xenstore-ls`) can use it. */
import { chmod, lstat, rm } from 'node:fs/promises'
import { connect, createServer, type Server, type Socket } from 'node:net'
import { NotAvailableError } from '@xenkit/hypervisor'
import type { Xenstored } from './xenstored/index.ts'

export interface XenstoredSocket extends AsyncDisposable {
  readonly path: string
  /** Ends the connections, stops listening and removes the socket. */
  close(): Promise<void>
}

/**
 * Listens on `path`, as this user alone may connect to it. Its clients have domain 0's rights. A socket that
 * another process left there is replaced.
 * @throws NotAvailableError when the socket can't be made, or is in use
 */
export async function listenXenstored(xenstored: Xenstored, path: string): Promise<XenstoredSocket> {
  const sockets = new Set<Socket>()
  // A client that has sent all and now waits for its answers is half open, and gets them.
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    sockets.add(socket)
    socket.once('close', () => sockets.delete(socket))
    serve(xenstored, socket)
  })
  try {
    await listen(server, path).catch(async (error: unknown) => {
      if (codeOf(error) !== 'EADDRINUSE' || !(await isStale(path))) throw error
      await rm(path)
      await listen(server, path)
    })
    await chmod(path, 0o600)
  } catch (error) {
    throw new NotAvailableError(`no xenstored can listen on "${path}": ${reasons[codeOf(error)] ?? String(error)}`, { path }, { cause: error })
  }
  const close = (): Promise<void> =>
    new Promise((resolve) => {
      server.close(() => resolve())
      for (const socket of sockets) socket.destroy()
    })
  return { path, close, [Symbol.asyncDispose]: close }
}

function serve(xenstored: Xenstored, socket: Socket): void {
  const connection = xenstored.connect(0, {
    data(bytes) {
      // The socket keeps what it can't send at once, and these bytes are only lent.
      if (!socket.write(Uint8Array.from(bytes))) connection.pause()
    },
    ready: () => socket.resume(),
    closed: () => socket.destroySoon(),
  })
  socket.on('data', (chunk) => {
    if (!connection.write(chunk)) socket.pause()
  })
  socket.on('end', () => connection.finish())
  socket.on('drain', () => connection.resume())
  socket.on('error', () => socket.destroy())
  socket.on('close', () => connection.close())
}

const reasons: Readonly<Record<string, string>> = {
  EADDRINUSE: 'it is in use; stop the xenstored that listens there or choose another path',
  EACCES: 'its directory does not exist or may not be written to',
  EINVAL: 'a socket\'s path has at most 107 bytes',
}

const codeOf = (error: unknown): string => (error instanceof Error && 'code' in error ? String(error.code) : '')

const listen = (server: Server, path: string): Promise<void> =>
  new Promise((resolve, reject) => {
    server.once('error', reject)
    server.listen(path, () => {
      server.off('error', reject)
      resolve()
    })
  })

/** Whether it is a socket that nobody listens on. */
async function isStale(path: string): Promise<boolean> {
  if (!(await lstat(path)).isSocket()) return false
  return new Promise((resolve) => {
    const probe = connect(path)
    probe.once('connect', () => {
      probe.destroy()
      resolve(false)
    })
    probe.once('error', (error) => resolve(codeOf(error) === 'ECONNREFUSED'))
  })
}
