/** A xenstored that can be restarted, with or without what it knew, be away, or be exchanged. */
import {
  type ByteStream,
  type ByteStreamReceiver,
  NotAvailableError,
  type XenstorePort,
} from '@xenkit/hypervisor'
import { Xenstored } from '@xenkit/sim'

export class RestartingXenstored implements XenstorePort {
  xenstored = new Xenstored()
  /** Connections asked for, and those that were not to be had. */
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

  /** As for a domain that is restored: another xenstored answers, which knows the nodes alone. */
  restore(): void {
    for (const connection of this.#open) {
      connection.stream.close()
      connection.stream = this.xenstored.connect(0, connection.receiver)
    }
  }

  /** Ends all connections; a store that is new knows nothing. */
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

  /** Resolves once a client has tried that many times in all. */
  async attempted(times: number): Promise<void> {
    while (this.attempts < times) {
      await new Promise<void>((resolve) => {
        this.#onAttempt.add(resolve)
      })
    }
  }
}
