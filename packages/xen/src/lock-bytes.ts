/** Locks on images, for stores: the addon has the system call that Node lacks. */
import { getSystemErrorName } from 'node:util'
import { optionalNative } from './optional-native.ts'

/**
 * Takes shared locks on some bytes of an open file, then looks whether another open file has locks
 * on others. It resolves to the first byte where another's lock is in the way, if there is one, and
 * rejects with an error whose `code` is the errno's name. Undefined where the addon can't be
 * loaded.
 */
export function lockBytes():
  | ((
      fd: number,
      take: readonly number[],
      unlocked: readonly number[],
    ) => Promise<number | undefined>)
  | undefined {
  const native = optionalNative()
  if (!native) return undefined
  return async (fd, take, unlocked) => {
    const result = await native.lockBytes(fd, take, unlocked)
    if (result >= 0) return result || undefined
    const code = getSystemErrorName(result)
    throw Object.assign(new Error(`locks on bytes ${take.join(', ')}: ${code}`), { code })
  }
}
