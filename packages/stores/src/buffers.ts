/** The list of buffers that a store is given, as one run of bytes. */

/** Takes views off the front of buffers: n in n steps, where slices from the start take n². */
export class Cursor {
  readonly #buffers: readonly Uint8Array[]
  #index = 0
  /** Bytes of the buffer at `#index` that were taken. */
  #taken = 0

  constructor(buffers: readonly Uint8Array[]) {
    this.#buffers = buffers
  }

  /** Views of the next `length` bytes, or of all that are left. */
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

/** Views of `length` bytes from `start` on, or of all the rest. */
export function slice(
  buffers: readonly Uint8Array[],
  start: number,
  length = Infinity,
): Uint8Array[] {
  const cursor = new Cursor(buffers)
  cursor.take(start)
  return cursor.take(length)
}

/** Copies all of `buffers` to the beginning of `into`. */
export function gather(buffers: readonly Uint8Array[], into: Uint8Array): void {
  let at = 0
  for (const buffer of buffers) {
    into.set(buffer, at)
    at += buffer.length
  }
}

/**
 * Fills `buffers` with what is at the beginning of `from`.
 * @returns bytes copied, fewer than there is room for where `from` is shorter
 */
export function scatter(from: Uint8Array, buffers: readonly Uint8Array[]): number {
  let at = 0
  for (const buffer of buffers) {
    buffer.set(from.subarray(at, at + buffer.length))
    at += buffer.length
  }
  return Math.min(at, from.length)
}

/** Whether each byte equals the one before it, and the first is 0. */
export const isZero = (bytes: Uint8Array): boolean =>
  bytes[0] === 0 && Buffer.compare(bytes.subarray(1), bytes.subarray(0, -1)) === 0
