/**
 * The socket of one connection: it sends and receives bytes, encrypts if the URI says so, and
 * reports its end once.
 *
 * Without TLS all bytes arrive in one reused buffer: throughput is 0.92 to 1.55 of a C client's. A
 * buffer per `data` event reaches 0.75 to 1.06. TLS allocates a buffer per record.
 */
import { type Socket, connect, isIP } from 'node:net'
import { type ConnectionOptions, connect as connectTls } from 'node:tls'
import { asError } from './nbd-error.ts'
import type { NbdTarget } from './uri.ts'

const RECEIVE_BYTES = 256 * 1024

export class Transport {
  /** Receives bytes, which are valid until the callback returns. If it throws, the socket ends. */
  onBytes: (bytes: Uint8Array) => void = () => {}
  /** Called once when the connection ends, unless `close` ended it. */
  onLost: (reason: Error) => void = () => {}
  readonly #target: NbdTarget
  #socket: Socket
  #over = false

  /** @param keepAliveMs milliseconds of silence after which the kernel probes the server */
  constructor(target: NbdTarget, keepAliveMs: number) {
    this.#target = target
    // The kernel's probes detect a dead server while nothing is in flight, without a timer here.
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
   * Starts TLS. The server's certificate is checked unless `options` say otherwise; with a wrong
   * one the connection is lost.
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
   * Sends all chunks together. `sent` is called when the socket no longer needs the bytes, unless
   * the connection ends first.
   */
  write(chunks: readonly Uint8Array[], sent: () => void): void {
    const socket = this.#socket
    socket.cork()
    chunks.forEach((chunk, i) =>
      socket.write(chunk, i === chunks.length - 1 ? (error) => !error && sent() : undefined),
    )
    socket.uncork()
  }

  /** Ends the connection once everything written is sent. Resolves when it has ended. */
  close(): Promise<void> {
    return new Promise((resolve) => {
      if (this.#over) return resolve()
      this.#over = true
      this.#socket.on('close', () => resolve())
      this.#socket.destroySoon()
    })
  }

  /** Ends the connection immediately: nothing more is sent or received. */
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
      this.destroy(asError(error))
    }
    return true
  }

  #listen(socket: Socket): Socket {
    socket.on('error', (error) => this.destroy(error))
    const closed = (): void => this.destroy(new Error('the server closed the connection'))
    // A server that has sent its end may not read either, and 'close' would never come: don't wait
    // for it.
    socket.on('end', closed)
    socket.on('close', closed)
    return socket
  }
}
