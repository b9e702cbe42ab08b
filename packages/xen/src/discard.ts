/** Discards ranges of images, for stores: the addon makes the system calls that Node lacks. */
import { getSystemErrorName } from 'node:util'
import { optionalNative } from './optional-native.ts'

/**
 * Returns a function that discards a range of an open file or block device; undefined where the
 * addon can't be loaded. A file's range then reads as zeroes. The function rejects with an error
 * whose `code` is the errno name.
 */
export function discardRange():
  | ((fd: number, offset: number, length: number) => Promise<void>)
  | undefined {
  const native = optionalNative()
  if (!native) return undefined
  return async (fd, offset, length) => {
    const result = await native.discard(fd, offset, length)
    if (result === 0) return
    const code = getSystemErrorName(result)
    throw Object.assign(new Error(`discard of ${length} bytes at ${offset}: ${code}`), { code })
  }
}
