/** A xenstored that a test can restart with or without its state, make unreachable, or replace. */
import {
  type ByteStream,
  type ByteStreamReceiver,
  NotAvailableError,
  type XenstorePort,
} from '@xenkit/hypervisor'
import { Xenstored } from '@xenkit/sim'

export class RestartingXenstored implements XenstorePort {
  xenstored = new Xenstored()
  /** `attempts` counts attempts to connect; `refused` counts those that failed. */
  attempts = 0
  refused = 0
  #away = false
  readonly #open = new Set<{ stream: ByteStream; readonly receiver: ByteStreamReceiver }>()
  readonly #onAttempt = new Set<() => void>()

  async connect(receiver: ByteStreamReceiver): Promise<ByteStream> {
    this.attempts++
    for (const resolve of this.#onAttempt) resolve()
    if (this.#away) {
      this.refused++
      throw new NotAvailableError('xenstored is away')
    }
    const connection = { stream: this.xenstored.connect(0, receiver), receiver }
    this.#open.add(connection)
    return {
      write: (bytes) => connection.stream.write(bytes),
      close: () => connection.stream.close(),
    }
  }

  /**
   * Moves each connection to a new one in xenstored, unnoticed by the client, as when a domain is
   * restored: nodes stay, watches and transactions are gone.
   */
  restore(): void {
    for (const connection of this.#open) {
      connection.stream.close()
      connection.stream = this.xenstored.connect(0, connection.receiver)
    }
  }

  /**
   * Ends all connections. With `away`, new ones are refused; with `newStore`, the next xenstored is
   * empty.
   */
  drop(o: { readonly newStore?: boolean; readonly away?: boolean } = {}): void {
    this.#away = o.away ?? false
    const ended = [...this.#open]
    this.#open.clear()
    if (o.newStore) this.xenstored = new Xenstored()
    for (const { stream, receiver } of ended) {
      stream.close()
      receiver.closed(new Error('xenstored went away'))
    }
  }

  comeBack(): void {
    this.#away = false
  }

  /** Resolves after a total of `times` connection attempts. */
  async attempted(times: number): Promise<void> {
    while (this.attempts < times) {
      await new Promise<void>((resolve) => {
        this.#onAttempt.add(resolve)
      })
    }
  }
}
