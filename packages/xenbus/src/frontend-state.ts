/** Watches a frontend's `state` for its backend. The guest may write anything there. */
import { NegotiationError } from '@xenkit/hypervisor'
import type { XenbusState } from '@xenkit/wire'
import { type XenstoreClient, XenstoreClosedError } from '@xenkit/xenstore-client'
import { Level } from './level.ts'
import { ofOtherEnd } from './node-access.ts'
import { frontendDeviceNodes } from './nodes.ts'

export interface FrontendStateOptions {
  readonly xs: XenstoreClient
  /** The frontend's directory. */
  readonly path: string
  /**
   * Called when the frontend's state may have changed, or when watching it fails or works again.
   */
  readonly changed: () => void
  /** Called when xenstored refuses the watch. */
  readonly refused: (error: unknown) => void
}

export class FrontendState {
  readonly #o: FrontendStateOptions
  #gone = false
  #isRefused = false
  #fault: NegotiationError | undefined
  readonly #retry = new Level()
  #latest: XenbusState | undefined
  #before: XenbusState | undefined

  constructor(o: FrontendStateOptions) {
    this.#o = o
  }

  /** The state before the current one; undefined after `heeded`. */
  get before(): XenbusState | undefined {
    return this.#before
  }

  /**
   * Error of the last `read` if the node held no state of xenbus; the frontend then counts as gone.
   */
  get fault(): NegotiationError | undefined {
    return this.#fault
  }

  /** Sets `before` to undefined: the backend has reacted to the current state. */
  heeded(): void {
    this.#before = undefined
  }

  /**
   * Makes `read` return undefined: the frontend's domain was destroyed, although its nodes remain.
   */
  gone(): void {
    this.#gone = true
  }

  /** Sets the watch again if xenstored has refused it. */
  retry(): void {
    this.#retry.raise()
  }

  /**
   * Watches the state until the signal aborts. If xenstored refuses the watch, `retry` tries again.
   */
  async follow(signal: AbortSignal): Promise<void> {
    const { xs, path, changed, refused } = this.#o
    signal.addEventListener('abort', () => this.#retry.raise())
    while (!signal.aborted) {
      try {
        for await (const _ of xs.watch(`${path}/state`, { signal })) {
          this.#isRefused = false
          changed()
        }
        return
      } catch (error) {
        // The next read rejects with the same error.
        if (error instanceof XenstoreClosedError) return changed()
        if (!this.#isRefused) refused(error)
        this.#isRefused = true
        changed()
        await this.#retry.wait()
      }
    }
  }

  /**
   * Reads the state; undefined if the frontend is gone, the node holds no state of xenbus, or it
   * can't be watched.
   */
  async read(): Promise<XenbusState | undefined> {
    const { xs, path } = this.#o
    let state: XenbusState | undefined
    this.#fault = undefined
    try {
      state = await ofOtherEnd(frontendDeviceNodes.readNode(xs, path, 'state'))
    } catch (error) {
      if (!(error instanceof NegotiationError)) throw error
      this.#fault = error
    } finally {
      if (state !== this.#latest) [this.#before, this.#latest] = [this.#latest, state]
    }
    return this.#gone || this.#isRefused ? undefined : state
  }
}
