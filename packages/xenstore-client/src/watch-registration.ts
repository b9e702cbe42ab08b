/** One watch in xenstored, set again whenever xenstored has forgotten it. */
import { XS, xsWatchPathFault } from '@xenkit/wire'
import type { Connection, WatchListener } from './connection.ts'
import { isRefusal, refused, XenstoreClosedError } from './errors.ts'

/** Receives the events of a `WatchRegistration`. */
export interface ChangeListener {
  changed(path: string): void
  /**
   * Called when no event can follow: the connection is over, or xenstored refused to set the watch
   * again.
   */
  ended(error: unknown): void
}

/** A watch that survives losses of the connection. */
export class WatchRegistration implements WatchListener {
  /** Settles with xenstored's first answer to the WATCH request. */
  readonly ready: Promise<void>
  readonly #connection: Connection
  readonly #path: string
  readonly #depth: number | undefined
  readonly #listener: ChangeListener
  readonly #token: string
  /** The functions that settle `ready`; undefined after the first answer. */
  #first: { resolve(): void; reject(error: unknown): void } | undefined
  /**
   * Whether this side drops changes below `depth` levels, because this xenstored doesn't support
   * depths.
   */
  #filters = false

  /**
   * @param o.depth levels below `path` to report, 0 or more; unlimited if absent
   * @throws RangeError for a path that can't be watched
   * @throws XenstoreClosedError when the connection is over
   */
  constructor(
    connection: Connection,
    o: { readonly path: string; readonly depth?: number | undefined },
    listener: ChangeListener,
  ) {
    const fault = xsWatchPathFault(o.path)
    if (fault) throw new RangeError(`"path" ${JSON.stringify(o.path.slice(0, 64))} ${fault}`)
    this.#connection = connection
    this.#path = o.path
    this.#depth = o.depth
    this.#listener = listener
    this.ready = new Promise((resolve, reject) => {
      this.#first = { resolve, reject }
    })
    this.ready.catch(() => {}) // whoever awaits `ready` handles the error
    this.#token = connection.addListener(this)
    this.forgotten()
  }

  changed(path: string): void {
    if (!this.#filters || this.#isWithinDepth(path)) this.#listener.changed(path)
  }

  forgotten(): void {
    // While there is no connection, don't set the watch: it is set when there is one again.
    if (this.#connection.isConnected) void this.#set()
  }

  ended(error: unknown): void {
    this.#first?.reject(error)
    this.#listener.ended(error)
  }

  /** Removes the watch. No event follows; resolves when xenstored has forgotten the watch. */
  async remove(): Promise<void> {
    this.#connection.removeListener(this.#token)
    // An error means that the watch isn't set in xenstored: it never was, or the connection was
    // lost.
    if (this.#connection.isConnected) await this.#request(XS.UNWATCH).catch(() => {})
  }

  async #set(): Promise<void> {
    try {
      await this.#watch()
      this.#first?.resolve()
      this.#first = undefined
    } catch (error) {
      if (error instanceof XenstoreClosedError) return // `forgotten` or `ended` is called as well
      if (!this.#first && isRefusal(error, 'EEXIST')) return // xenstored had not forgotten it
      this.#connection.removeListener(this.#token)
      if (this.#first) this.#first.reject(error)
      else this.#listener.ended(error)
    }
  }

  async #watch(): Promise<void> {
    this.#filters = false
    if (this.#depth === undefined) return this.#request(XS.WATCH)
    try {
      await this.#request(XS.WATCH, `${this.#depth}\0`)
    } catch (error) {
      if (!isRefusal(error, 'EINVAL')) throw error
      // xenstored has rejected the third string of WATCH, which Xen before 4.21 doesn't accept.
      if (this.#path.startsWith('@')) {
        throw refused(
          { type: XS.WATCH, subject: this.#path },
          'ENOSYS',
          'this xenstored supports no depth for watches',
        )
      }
      this.#filters = true
      await this.#request(XS.WATCH)
    }
  }

  #isWithinDepth(path: string): boolean {
    const below = this.#path === '/' ? path.slice(1) : path.slice(this.#path.length + 1)
    const levels = below === '' ? 0 : below.split('/').length
    return levels <= (this.#depth ?? Infinity)
  }

  #request(type: number, more = ''): Promise<void> {
    return this.#connection.request(
      { type, subject: this.#path, head: `${this.#path}\0${this.#token}\0${more}` },
      () => {},
    )
  }
}
