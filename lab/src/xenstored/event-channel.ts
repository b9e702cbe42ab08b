/**
 * An event channel to the stub: a unix socket, to which the stub connects in order to bind. Each
 * event is a byte.
 */
import { type Server, type Socket, createServer } from 'node:net'

export class EventChannel {
  readonly #server: Server
  #peer: Socket | undefined

  private constructor(server: Server) {
    this.#server = server
  }

  /** @param path path of the socket, which this creates */
  static async open(path: string, onEvent: () => void): Promise<EventChannel> {
    const server = createServer()
    const channel = new EventChannel(server)
    server.on('connection', (socket) => {
      channel.#peer = socket
      // as on Xen, binding makes an event pending, which covers notifications from before the
      // connection
      socket.write('\0')
      socket.on('data', () => onEvent())
      socket.on('error', () => {}) // a peer that has gone needs no notification
    })
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject)
      server.listen(path, resolve)
    })
    return channel
  }

  /** Does nothing while no peer is bound. */
  notify(): void {
    this.#peer?.write('\0')
  }

  close(): void {
    this.#server.close()
    this.#peer?.destroy()
  }
}
