/** Discarding on images, for stores: the addon has the system calls that Node lacks. */
import { getSystemErrorName } from 'node:util'
import { optionalNative } from './optional-native.ts'

/**
 * Gives up a range of an open file, which then reads as zeroes, or of a block device. It rejects
 * with an error whose `code` is the errno's name. Undefined where the addon can't be loaded.
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
