/** Watches: one set in xenstored, and the iterator over one. */
import { XS, xsWatchPathFault } from '@xenkit/wire'
import type { Connection, WatchListener } from './connection.ts'
import type { XenstoreClosedError } from './errors.ts'

export interface WatchOptions {
  /** Ends the iteration; that is no error. */
  readonly signal?: AbortSignal
}

/** A watch as xenstored knows it. */
export class WatchRegistration {
  /** Settles with xenstored's answer. */
  readonly ready: Promise<void>
  readonly #connection: Connection
  readonly #path: string
  readonly #token: string

  constructor(connection: Connection, path: string, listener: WatchListener) {
    const fault = xsWatchPathFault(path)
    if (fault) throw new RangeError(`"path" ${JSON.stringify(path.slice(0, 64))} ${fault}`)
    this.#connection = connection
    this.#path = path
    this.#token = connection.addListener(listener)
    this.ready = this.#request(XS.WATCH)
    this.ready.catch(() => connection.removeListener(this.#token))
  }

  /** Takes the watch back. Nothing is heard of it from now on; resolves when xenstored has forgotten it. */
  async remove(): Promise<void> {
    this.#connection.removeListener(this.#token)
    // It is gone as well where it was never set, or the connection is over.
    await this.#request(XS.UNWATCH).catch(() => {})
  }

  #request(type: number): Promise<void> {
    return this.#connection.request({ type, subject: this.#path, head: `${this.#path}\0${this.#token}\0` }, () => {})
  }
}

/** Changed paths that wait for the consumer. Beyond, they become one: the watched path. */
const PATHS_MAX = 1024

/** Set when first asked for a path, removed when it ends. */
export class PathWatch implements AsyncIterableIterator<string, undefined>, WatchListener {
  readonly #connection: Connection
  readonly #path: string
  readonly #signal: AbortSignal | undefined
  /** What changed since the consumer last looked: each path once, in order. */
  readonly #changed = new Set<string>()
  #registration: WatchRegistration | undefined
  #over = false
  #error: unknown
  /** Settles when xenstored has forgotten the watch. */
  #removal: Promise<void> | undefined
  /** One per `next` that waits. */
  #waiting: (() => void)[] = []

  constructor(connection: Connection, path: string, o: WatchOptions) {
    this.#connection = connection
    this.#path = path
    this.#signal = o.signal
  }

  [Symbol.asyncIterator](): this {
    return this
  }

  async next(): Promise<IteratorResult<string, undefined>> {
    if (this.#signal?.aborted) await this.return()
    if (!this.#registration && !this.#over) await this.#begin()
    for (;;) {
      if (this.#error !== undefined) {
        const error = this.#error
        this.#error = undefined
        throw error
      }
      if (this.#over) {
        await this.#removal
        return { done: true, value: undefined }
      }
      for (const path of this.#changed) {
        this.#changed.delete(path)
        return { done: false, value: path }
      }
      await new Promise<void>((resolve) => this.#waiting.push(resolve))
    }
  }

  /** Ends the iteration, a `next` that waits included. */
  async return(): Promise<IteratorResult<string, undefined>> {
    if (!this.#over) {
      this.#end(undefined)
      this.#removal = this.#registration?.remove()
    }
    await this.#removal
    return { done: true, value: undefined }
  }

  changed(path: string): void {
    if (this.#changed.size >= PATHS_MAX) {
      this.#changed.clear()
      this.#changed.add(this.#path)
    } else this.#changed.add(path)
    this.#wake()
  }

  ended(error: XenstoreClosedError): void {
    this.#end(error.lost ? error : undefined)
  }

  async #begin(): Promise<void> {
    this.#signal?.addEventListener('abort', this.#abort)
    try {
      this.#registration = new WatchRegistration(this.#connection, this.#path, this)
      await this.#registration.ready
    } catch (error) {
      this.#end(error)
    }
  }

  readonly #abort = (): void => void this.return()

  #end(error: unknown): void {
    if (this.#over) return
    this.#over = true
    this.#error = error
    this.#signal?.removeEventListener('abort', this.#abort)
    this.#wake()
  }

  #wake(): void {
    for (const resume of this.#waiting.splice(0)) resume()
  }
}
