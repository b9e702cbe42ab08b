/** The list of buffers that a store is given, as one run of bytes. */

export const byteLength = (buffers: readonly Uint8Array[]): number => buffers.reduce((sum, { length }) => sum + length, 0)

/** Views of `length` bytes from `start` on, or of all the rest. */
export function slice(buffers: readonly Uint8Array[], start: number, length = Infinity): Uint8Array[] {
  const views: Uint8Array[] = []
  let skip = start
  let left = length
  for (const buffer of buffers) {
    if (left === 0) break
    if (skip < buffer.length) {
      const view = buffer.subarray(skip, Math.min(buffer.length, skip + left))
      views.push(view)
      left -= view.length
    }
    skip = Math.max(0, skip - buffer.length)
  }
  return views
}

/** Copies all of `buffers` to the beginning of `into`. */
export function gather(buffers: readonly Uint8Array[], into: Uint8Array): void {
  let at = 0
  for (const buffer of buffers) {
    into.set(buffer, at)
    at += buffer.length
  }
}

/** Fills `buffers` with what is at the beginning of `from`. */
export function scatter(from: Uint8Array, buffers: readonly Uint8Array[]): void {
  let at = 0
  for (const buffer of buffers) {
    buffer.set(from.subarray(at, at + buffer.length))
    at += buffer.length
  }
}
