import { closeAll, closeEach } from './close-all.ts'

/**
 * Owns resources that were opened together, and closes them together. It closes the last one
 * first, because later resources may use earlier ones.
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

  /**
   * Adds a resource to close. Even if it is closed by itself before, `close` and `closeEach` call
   * its `close` again.
   * @returns the resource
   */
  own<T extends { close(): void }>(opened: T): T {
    this.#owned.push(opened)
    return opened
  }

  /**
   * Closes all resources, last opened first. Idempotent; after an error, another call tries again.
   * @throws the first error, once all the others are closed
   */
  close(): void {
    closeAll(this.#owned.toReversed())
  }

  /**
   * Closes all resources as `close` does, for a caller that already has an error to throw.
   * @returns the errors, in order
   */
  closeEach(): unknown[] {
    return closeEach(this.#owned.toReversed())
  }

  [Symbol.dispose](): void {
    this.close()
  }
}
