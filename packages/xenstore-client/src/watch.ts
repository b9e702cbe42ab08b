/** Watches as async iterators. */
import { expectInteger } from '@xenkit/hypervisor'
import type { Connection } from './connection.ts'
import { XenstoreClosedError } from './errors.ts'
import { type ChangeListener, WatchRegistration } from './watch-registration.ts'

/** Options of `XenstoreClient.watch`. */
export interface WatchOptions {
  /**
   * Levels below the path to report, 0..4096: 0 is the node alone, 1 adds its children; default
   * all. A special path with depth 1 yields `@introduceDomain/DOMID`; Xen before 4.21 rejects that
   * (ENOSYS).
   */
  readonly depth?: number | undefined
  /** Ends the iteration when it aborts, without an error. */
  readonly signal?: AbortSignal
}

/**
 * Most changed paths that wait for the consumer. If there are more, the watched path replaces them.
 */
const PATHS_MAX = 1024
/** Highest depth accepted; no path has as many levels. */
const DEPTH_MAX = 4096

/**
 * Iterator over a watch's events. The first `next` sets the watch in xenstored, and the end of the
 * iteration removes it.
 */
export class PathWatch implements AsyncIterableIterator<string, undefined>, ChangeListener {
  readonly #connection: Connection
  readonly #path: string
  readonly #depth: number | undefined
  readonly #signal: AbortSignal | undefined
  /** Paths changed since the consumer last asked, each once, in order. */
  readonly #changed = new Set<string>()
  #registration: WatchRegistration | undefined
  #over = false
  #error: unknown
  /** Settles when xenstored has forgotten the watch. */
  #removal: Promise<void> | undefined
  /** Resolvers of pending `next` calls. */
  #waiting: (() => void)[] = []

  constructor(connection: Connection, path: string, o: WatchOptions) {
    this.#connection = connection
    this.#path = path
    this.#depth = o.depth
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

  /** Ends the iteration, including pending calls of `next`. */
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

  ended(error: unknown): void {
    this.#end(error instanceof XenstoreClosedError && !error.lost ? undefined : error)
  }

  async #begin(): Promise<void> {
    this.#signal?.addEventListener('abort', this.#abort)
    try {
      if (this.#depth !== undefined) expectInteger('depth', this.#depth, 0, DEPTH_MAX)
      this.#registration = new WatchRegistration(
        this.#connection,
        { path: this.#path, depth: this.#depth },
        this,
      )
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
