/**
 * What one client sends. It is taken at once, in small steps; what comes while the client has replies
 * enough to take waits here, so that a flood of requests becomes no flood of replies.
 */

/** Bytes taken at a time: at most 256 requests, and so 1 MiB of replies, beyond the limit of `isBlocked`. */
const STEP = 4096
/** Bytes that may wait: some hundred thousand requests. */
const BYTES_MAX = 16 * 1024 * 1024

export class Inbox {
  readonly #take: (bytes: Uint8Array) => void
  readonly #isBlocked: () => boolean
  readonly #chunks: Uint8Array[] = []
  #length = 0

  constructor(take: (bytes: Uint8Array) => void, isBlocked: () => boolean) {
    this.#take = take
    this.#isBlocked = isBlocked
  }

  /** @returns false if it is more than may wait: the connection can't go on. */
  add(bytes: Uint8Array): boolean {
    const taken = this.#chunks.length > 0 ? 0 : this.#takeFrom(bytes)
    if (taken === bytes.length) return true
    this.#chunks.push(bytes.slice(taken))
    this.#length += bytes.length - taken
    return this.#length <= BYTES_MAX
  }

  /** Takes what waits, as far as it may. */
  proceed(): void {
    for (let chunk = this.#chunks[0]; chunk; chunk = this.#chunks[0]) {
      const taken = this.#takeFrom(chunk)
      this.#length -= taken
      if (taken < chunk.length) {
        this.#chunks[0] = chunk.subarray(taken)
        return
      }
      this.#chunks.shift()
    }
  }

  #takeFrom(bytes: Uint8Array): number {
    let taken = 0
    while (taken < bytes.length && !this.#isBlocked()) {
      const step = bytes.subarray(taken, taken + STEP)
      this.#take(step)
      taken += step.length
    }
    return taken
  }
}
