/** A frontend's `state`, as its backend follows it: the guest's word, watched. */
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
  #watchError: unknown
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

  /** Why the state can't be followed any more: the connection to xenstored is over. */
  get error(): unknown {
    return this.#watchError
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

  /** Follows the state until the signal aborts; a watch that xenstored refuses is tried again on `retry`. */
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
        if (error instanceof XenstoreClosedError) {
          this.#watchError = error
          return changed()
        }
        if (!this.#isRefused) refused(error)
        this.#isRefused = true
        changed()
        await this.#retry.wait()
      }
    }
  }

  /**
   * Undefined where the frontend is gone, or can't be followed.
   * @throws NegotiationError for a state that doesn't exist, which counts as gone
   */
  async read(): Promise<XenbusState | undefined> {
    const { xs, path } = this.#o
    let state: XenbusState | undefined
    try {
      state = await ofOtherEnd(frontendDeviceNodes.readNode(xs, path, 'state'))
    } finally {
      if (state !== this.#latest) [this.#before, this.#latest] = [this.#latest, state]
    }
    return this.#gone || this.#isRefused ? undefined : state
  }
}
