/** A xenstored on a real unix socket, so that Xen's own tools (`XENSTORED_PATH=... xenstore-ls`) can use it. */
import { createServer, type Server } from 'node:net'
import type { Xenstored } from './xenstored/index.ts'

export interface XenstoredSocket extends AsyncDisposable {
  readonly path: string
  /** Ends the connections and stops listening. */
  close(): Promise<void>
}

/**
 * Listens on `path`, which must not exist yet. Its clients have domain 0's rights.
 * @throws the system's error (EADDRINUSE, EACCES, ENOENT ...) when the socket can't be made
 */
export async function listenXenstored(xenstored: Xenstored, path: string): Promise<XenstoredSocket> {
  const sockets = new Set<{ destroy(): void }>()
  const server = createServer((socket) => {
    sockets.add(socket)
    const connection = xenstored.connect(0, {
      data(bytes) {
        // The socket keeps what it can't send at once, and these bytes are only lent.
        if (socket.write(Uint8Array.from(bytes))) return
        // A client that doesn't read gets nothing more done until it does.
        socket.pause()
        connection.pause()
      },
      closed: () => socket.end(),
    })
    socket.on('data', (chunk) => connection.write(chunk))
    socket.on('drain', () => {
      connection.resume()
      socket.resume()
    })
    socket.on('error', () => socket.destroy())
    socket.on('close', () => {
      sockets.delete(socket)
      connection.close()
    })
  })
  await listening(server, path)
  const close = (): Promise<void> =>
    new Promise((resolve) => {
      server.close(() => resolve())
      for (const socket of sockets) socket.destroy()
    })
  return { path, close, [Symbol.asyncDispose]: close }
}

const listening = (server: Server, path: string): Promise<void> =>
  new Promise((resolve, reject) => {
    server.once('error', reject)
    server.listen(path, resolve)
  })
