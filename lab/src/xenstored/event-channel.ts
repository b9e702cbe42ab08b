/**
 * An event channel to the stub: a unix socket on which it waits for the stub to bind. An event is a
 * byte.
 */
import { type Server, type Socket, createServer } from 'node:net'

export class EventChannel {
  readonly #server: Server
  #peer: Socket | undefined

  private constructor(server: Server) {
    this.#server = server
  }

  /** @param path of the socket, which is made */
  static async open(path: string, onEvent: () => void): Promise<EventChannel> {
    const server = createServer()
    const channel = new EventChannel(server)
    server.on('connection', (socket) => {
      channel.#peer = socket
      // as on Xen, an event is pending at once: it stands for notifications since the stub bound,
      // too
      socket.write('\0')
      socket.on('data', () => onEvent())
      socket.on('error', () => {}) // who is gone can't be notified, and needn't be
    })
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject)
      server.listen(path, resolve)
    })
    return channel
  }

  /** Goes nowhere while nobody is bound. */
  notify(): void {
    this.#peer?.write('\0')
  }

  close(): void {
    this.#server.close()
    this.#peer?.destroy()
  }
}
