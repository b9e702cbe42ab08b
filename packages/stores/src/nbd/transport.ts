/**
 * The socket of one connection: bytes in, bytes out, TLS where the URI wants it, and one word when
 * it is over.
 *
 * Without TLS the kernel's bytes land in one buffer that is used again and again (0.92 to 1.55 of a
 * C client's rate, a buffer per `data` event 0.75 to 1.06). TLS gives a buffer per record.
 */
import { type Socket, connect, isIP } from 'node:net'
import { type ConnectionOptions, connect as connectTls } from 'node:tls'
import type { NbdTarget } from './uri.ts'

const RECEIVE_BYTES = 256 * 1024

export class Transport {
  /** Takes what arrives, valid until it returns. What it throws ends the connection. */
  onBytes: (bytes: Uint8Array) => void = () => {}
  /** Called once, when the connection is over, unless it was closed from this side. */
  onLost: (reason: Error) => void = () => {}
  readonly #target: NbdTarget
  #socket: Socket
  #over = false

  /** @param keepAliveMs silence after which the kernel begins to probe the other side */
  constructor(target: NbdTarget, keepAliveMs: number) {
    this.#target = target
    // The kernel's probes find out about a dead peer while nothing is in flight, without a timer
    // here.
    const keepAlive = { keepAlive: true, keepAliveInitialDelay: keepAliveMs }
    const options = { ...target.address, noDelay: true, ...keepAlive }
    if (target.tls) this.#socket = this.#listen(connect(options)).on('data', this.#receive)
    else {
      this.#socket = this.#listen(
        connect({
          ...options,
          onread: {
            buffer: new Uint8Array(RECEIVE_BYTES),
            callback: (length, buffer) => this.#receive(buffer.subarray(0, length)),
          },
        }),
      )
    }
  }

  /**
   * Encrypts what follows. The server's certificate is checked unless `options` say otherwise; if
   * it is wrong, the connection is lost.
   */
  startTls(options: ConnectionOptions): Promise<void> {
    const plain = this.#socket
    plain.off('data', this.#receive)
    const { address } = this.#target
    const host = 'host' in address ? address.host : 'localhost'
    return new Promise((resolve) => {
      this.#socket = this.#listen(
        connectTls(
          { host, ...(isIP(host) === 0 && { servername: host }), ...options, socket: plain },
          resolve,
        ),
      ).on('data', this.#receive)
    })
  }

  /**
   * Sends in one go. `sent` is called when the socket needs the bytes no more, unless it is over
   * first.
   */
  write(chunks: readonly Uint8Array[], sent: () => void): void {
    const socket = this.#socket
    socket.cork()
    chunks.forEach((chunk, i) =>
      socket.write(chunk, i === chunks.length - 1 ? (error) => !error && sent() : undefined),
    )
    socket.uncork()
  }

  /** Ends the connection after what was written. Resolves when it is over. */
  close(): Promise<void> {
    return new Promise((resolve) => {
      if (this.#over) return resolve()
      this.#over = true
      this.#socket.on('close', () => resolve())
      this.#socket.destroySoon()
    })
  }

  /** Ends it at once: nothing more is sent or received. */
  destroy(reason: Error): void {
    this.#socket.destroy()
    if (this.#over) return
    this.#over = true
    this.onLost(reason)
  }

  readonly #receive = (bytes: Uint8Array): boolean => {
    try {
      this.onBytes(bytes)
    } catch (error) {
      this.destroy(error instanceof Error ? error : new Error(String(error)))
    }
    return true
  }

  #listen(socket: Socket): Socket {
    socket.on('error', (error) => this.destroy(error))
    const closed = (): void => this.destroy(new Error('the server closed the connection'))
    // it may not read what is still being sent, either: there would be no 'close'
    socket.on('end', closed)
    socket.on('close', closed)
    return socket
  }
}
