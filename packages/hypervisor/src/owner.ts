import { closeAll, closeEach } from './close-all.ts'

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
 *   throw firstOf([error, ...owner.closeEach()])
 * }
 */
export class Owner implements Disposable {
  readonly #owned: { close(): void }[] = []

  /** Adds something to close, more than once where that fails. @returns the same */
  own<T extends { close(): void }>(opened: T): T {
    this.#owned.push(opened)
    return opened
  }

  /**
   * Closes all of it. Idempotent; after an error it tries again.
   * @throws the first error of those that could not be closed, once all others are
   */
  close(): void {
    closeAll(this.#owned.toReversed())
  }

  /** As `close`. @returns the errors of those that could not be closed */
  closeEach(): unknown[] {
    return closeEach(this.#owned.toReversed())
  }

  [Symbol.dispose](): void {
    this.close()
  }
}
