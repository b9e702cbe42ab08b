/** Text that arrives in pieces. Callers can wait until it matches a pattern. */
import { within, withResolvers } from './deadline.ts'

interface Waiter {
  readonly pattern: RegExp
  readonly found: (match: RegExpExecArray) => void
  readonly failed: (error: Error) => void
}

export class Transcript {
  readonly #waiters = new Set<Waiter>()
  #text = ''
  #end: Error | undefined

  /** All text that has arrived so far. */
  get text(): string {
    return this.#text
  }

  append(piece: string): void {
    this.#text += piece
    for (const waiter of this.#waiters) this.#try(waiter)
  }

  /** No more text will come: pending and later waits reject with `error`. */
  end(error: Error): void {
    this.#end ??= error
    for (const { failed } of this.#waiters) failed(error)
    this.#waiters.clear()
  }

  /** Resolves with the first match in the whole text, including text that is still to come. */
  async find(
    pattern: RegExp,
    seconds: number,
    awaited = `${pattern} in the output`,
  ): Promise<RegExpExecArray> {
    const { promise, resolve, reject } = withResolvers<RegExpExecArray>()
    const waiter = { pattern, found: resolve, failed: reject }
    if (!this.#try(waiter)) {
      if (this.#end) throw this.#end
      this.#waiters.add(waiter)
    }
    try {
      return await within(seconds, awaited, promise)
    } finally {
      this.#waiters.delete(waiter)
    }
  }

  #try(waiter: Waiter): boolean {
    const match = waiter.pattern.exec(this.#text)
    if (match === null) return false
    this.#waiters.delete(waiter)
    waiter.found(match)
    return true
  }
}
