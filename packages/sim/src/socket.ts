/** A xenstored on a real unix socket, for Xen's own tools (`XENSTORED_PATH=... xenstore-ls`). */
import { chmod, link, lstat, mkdtemp, rm } from 'node:fs/promises'
import { connect, createServer, type Server, type Socket } from 'node:net'
import { dirname, join } from 'node:path'
import { NotAvailableError } from '@xenkit/hypervisor'
import type { Xenstored } from './xenstored/index.ts'

/** A listening socket. */
export interface XenstoredSocket extends AsyncDisposable {
  readonly path: string
  /** Ends all connections, stops listening and removes the socket. */
  close(): Promise<void>
}

/**
 * Listens on `path` with a socket that only this user can connect to. Clients have domain 0's
 * rights. A stale socket of an earlier process is replaced.
 * @throws NotAvailableError when the socket can't be created, or is in use
 */
export async function listenXenstored(
  xenstored: Xenstored,
  path: string,
): Promise<XenstoredSocket> {
  const sockets = new Set<Socket>()
  // Half-open connections are served: a client may shut down its half and wait for the replies.
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    sockets.add(socket)
    socket.once('close', () => sockets.delete(socket))
    serve(xenstored, socket)
  })
  await listenOrReplace(server, path).catch((error: unknown) => {
    server.close()
    throw new NotAvailableError(
      `no xenstored can listen on "${path}": ${reasons[codeOf(error)] ?? String(error)}`,
      { path },
      { cause: error },
    )
  })
  server.on('error', (error) => xenstored.log(`a client could not be served: ${error.message}`))
  const close = async (): Promise<void> => {
    // Remove the path while the socket still answers. Later another xenstored could take it for
    // stale and put its own socket there, which this would then remove.
    await rm(path, { force: true })
    await new Promise<void>((resolve) => {
      server.close(() => resolve())
      for (const socket of sockets) socket.destroy()
    })
  }
  return { path, close, [Symbol.asyncDispose]: close }
}

function serve(xenstored: Xenstored, socket: Socket): void {
  const connection = xenstored.connect(0, {
    data(bytes) {
      // Copy the bytes: the socket queues them, and the buffer is reused after this call.
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

/** Most bytes of a path: a sockaddr_un with its NUL. Node truncates longer ones. */
const PATH_MAX = 107

const reasons: Readonly<Record<string, string>> = {
  EADDRINUSE: 'it is in use; stop the xenstored that listens there or choose another path',
  ENOENT: 'its directory does not exist',
  EACCES: 'its directory may not be written to',
  ENOTSOCK: 'it exists and is not a socket',
  ENAMETOOLONG: `a socket's path has 1 to ${PATH_MAX} bytes`,
}

const systemError = (code: string): Error => Object.assign(new Error(code), { code })
const codeOf = (error: unknown): string =>
  error instanceof Error && 'code' in error ? String(error.code) : ''

/**
 * Creates the socket in a private directory, sets its mode, and moves it to `path`. At `path` it
 * would accept connections before its mode is set.
 */
async function listenOrReplace(server: Server, path: string): Promise<void> {
  expectLength(path)
  const directory = await mkdtemp(join(dirname(path), '.x'))
  try {
    const made = join(directory, 's')
    expectLength(made)
    await listen(server, made)
    await chmod(made, 0o600)
    await linkOrReplace(made, path)
  } finally {
    await rm(directory, { recursive: true })
  }
}

function expectLength(path: string): void {
  const length = Buffer.byteLength(path)
  if (length === 0 || length > PATH_MAX) throw systemError('ENAMETOOLONG')
}

async function linkOrReplace(made: string, path: string): Promise<void> {
  try {
    await link(made, path)
  } catch (error) {
    if (codeOf(error) !== 'EEXIST') throw error
    if (!(await isStale(path))) throw systemError('EADDRINUSE')
    await rm(path)
    await link(made, path)
  }
}

const listen = (server: Server, path: string): Promise<void> =>
  new Promise((resolve, reject) => {
    server.once('error', reject)
    server.listen(path, () => {
      server.off('error', reject)
      resolve()
    })
  })

/** Whether the path is a socket without a listener. */
async function isStale(path: string): Promise<boolean> {
  if (!(await lstat(path)).isSocket()) throw systemError('ENOTSOCK')
  return new Promise((resolve) => {
    const probe = connect(path)
    probe.once('connect', () => {
      probe.destroy()
      resolve(false)
    })
    probe.once('error', (error) => resolve(codeOf(error) === 'ECONNREFUSED'))
  })
}
