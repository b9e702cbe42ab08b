/** Helpers that treat a list of buffers as one run of bytes. */

/** Takes views off the front of buffers, in linear time: repeated slices take quadratic time. */
export class Cursor {
  readonly #buffers: readonly Uint8Array[]
  #index = 0
  /** Bytes already taken of the buffer at `#index`. */
  #taken = 0

  constructor(buffers: readonly Uint8Array[]) {
    this.#buffers = buffers
  }

  /** Returns views of the next `length` bytes, or of all that are left. */
  take(length: number): Uint8Array[] {
    const views: Uint8Array[] = []
    for (let left = length; left > 0;) {
      const buffer = this.#buffers[this.#index]
      if (!buffer) break
      const view = buffer.subarray(this.#taken, this.#taken + left)
      if (view.length > 0) views.push(view)
      left -= view.length
      this.#taken += view.length
      if (this.#taken < buffer.length) break
      this.#index++
      this.#taken = 0
    }
    return views
  }
}

/** Returns views of `length` bytes from `start` on, or of all that are left. */
export function slice(
  buffers: readonly Uint8Array[],
  start: number,
  length = Infinity,
): Uint8Array[] {
  const cursor = new Cursor(buffers)
  cursor.take(start)
  return cursor.take(length)
}

/** Copies all bytes of `buffers` to the start of `into`. */
export function gather(buffers: readonly Uint8Array[], into: Uint8Array): void {
  let at = 0
  for (const buffer of buffers) {
    into.set(buffer, at)
    at += buffer.length
  }
}

/**
 * Fills `buffers` from the start of `from`.
 * @returns bytes copied: fewer than `buffers` have room for if `from` is shorter
 */
export function scatter(from: Uint8Array, buffers: readonly Uint8Array[]): number {
  let at = 0
  for (const buffer of buffers) {
    buffer.set(from.subarray(at, at + buffer.length))
    at += buffer.length
  }
  return Math.min(at, from.length)
}

/** Whether all bytes are 0: the first is, and each equals the one before it. */
export const isZero = (bytes: Uint8Array): boolean =>
  bytes[0] === 0 && Buffer.compare(bytes.subarray(1), bytes.subarray(0, -1)) === 0
