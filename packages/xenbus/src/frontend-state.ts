/** A frontend's `state`, as its backend follows it: the guest's word, watched. */
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
  /** The state, or whether it can be followed, may be another than before. */
  readonly changed: () => void
  /** It can't be followed: xenstored refused the watch. */
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

  /** What `read` gave when that was last another state than now; undefined once that was heeded. */
  get before(): XenbusState | undefined {
    return this.#before
  }

  /**
   * What is wrong with the state that was read last: there is no such state, which counts as gone.
   */
  get fault(): NegotiationError | undefined {
    return this.#fault
  }

  /** This side has answered what the frontend did: only what it does from now on counts. */
  heeded(): void {
    this.#before = undefined
  }

  /** The frontend's domain is no more, whatever its nodes still say. */
  gone(): void {
    this.#gone = true
  }

  /** Something changed: a watch that was refused may be had now. */
  retry(): void {
    this.#retry.raise()
  }

  /**
   * Follows the state until the signal aborts; a watch that xenstored refuses is tried again on
   * `retry`.
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
        // Whoever looks hears of that from xenstored itself.
        if (error instanceof XenstoreClosedError) return changed()
        if (!this.#isRefused) refused(error)
        this.#isRefused = true
        changed()
        await this.#retry.wait()
      }
    }
  }

  /**
   * Undefined where the frontend is gone, is in a state that doesn't exist, or can't be followed.
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
