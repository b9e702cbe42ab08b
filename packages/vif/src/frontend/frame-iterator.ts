/** Received frames one by one, for programs that needn't be fast. */
import type { Frames } from '@xenkit/frames'

/** Most frames that wait to be fetched. */
const MAX_WAITING = 1024

/** A caller of `next` that waits. */
interface Caller {
  readonly resolve: (result: IteratorResult<Uint8Array, undefined>) => void
  readonly reject: (error: unknown) => void
}

/** Copies of received frames. Frames that arrive between two calls of `next` wait. */
export class FrameIterator implements AsyncIterableIterator<Uint8Array> {
  readonly #ended: () => void
  readonly #frames: Uint8Array[] = []
  readonly #callers: Caller[] = []
  #isOver = false
  #failure: { readonly error: unknown } | undefined

  /** @param ended called when the caller ends the iteration */
  constructor(ended: () => void) {
    this.#ended = ended
  }

  /** Adds copies of a batch's frames. @returns how many were dropped, because too many wait */
  push(frames: Frames): number {
    let dropped = 0
    for (let i = 0; i < frames.count; i++) {
      const caller = this.#callers.shift()
      if (caller) caller.resolve({ done: false, value: frames.bytes(i).slice() })
      else if (this.#frames.length < MAX_WAITING) this.#frames.push(frames.bytes(i).slice())
      else dropped++
    }
    return dropped
  }

  /** Ends the iteration after the frames that wait, with an error if one is given. */
  end(failure?: { readonly error: unknown }): void {
    this.#isOver = true
    this.#failure = failure
    for (const caller of this.#callers.splice(0)) this.#finish(caller)
  }

  next(): Promise<IteratorResult<Uint8Array, undefined>> {
    const value = this.#frames.shift()
    if (value) return Promise.resolve({ done: false, value })
    return new Promise((resolve, reject) => {
      if (this.#isOver) this.#finish({ resolve, reject })
      else this.#callers.push({ resolve, reject })
    })
  }

  return(): Promise<IteratorResult<Uint8Array, undefined>> {
    this.#ended()
    this.#frames.length = 0
    this.end()
    return Promise.resolve({ done: true, value: undefined })
  }

  [Symbol.asyncIterator](): this {
    return this
  }

  /** An error is thrown once, as an iteration's is. */
  #finish({ resolve, reject }: Caller): void {
    const failure = this.#failure
    this.#failure = undefined
    if (failure) reject(failure.error)
    else resolve({ done: true, value: undefined })
  }
}
