import { closeAll, closeEach, firstOf } from './close-all.ts'

/**
 * Holds what was opened together, and closes it together: the last one first, since what was opened
 * later may use what was opened before.
 *
 * @example
 * const owner = new Owner()
 * try {
 *   const pages = owner.own(hv.grants.share({ domid, pages: 1, writable: true }))
 *   const channel = owner.own(EventChannel.bindUnbound(hv.evtchn, { domid }))
 *   return { pages, channel, close: () => owner.close() }
 * } catch (error) {
 *   throw owner.closeAfter(error)
 * }
 */
export class Owner implements Disposable {
  readonly #owned: { close(): void }[] = []

  /** Adds something to close. @returns the same */
  own<T extends { close(): void }>(opened: T): T {
    this.#owned.push(opened)
    return opened
  }

  /**
   * Closes all of it, once.
   * @throws the first error of those that could not be closed, once all others are
   */
  close(): void {
    closeAll(this.#take())
  }

  /**
   * Closes all of it because of `error`.
   * @returns the error to throw: the same, with what could not be closed as its `suppressed`
   */
  closeAfter(error: unknown): unknown {
    return firstOf([error, ...closeEach(this.#take())])
  }

  [Symbol.dispose](): void {
    this.close()
  }

  #take(): { close(): void }[] {
    return this.#owned.splice(0).toReversed()
  }
}
