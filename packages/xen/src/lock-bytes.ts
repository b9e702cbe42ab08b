/** Locks bytes of image files, for stores: the addon makes the system call that Node lacks. */
import { getSystemErrorName } from 'node:util'
import { optionalNative } from './optional-native.ts'

/**
 * Returns a function that locks bytes of an open file; undefined where the addon can't be loaded.
 * The function takes shared locks on the bytes `take`, then checks that no other open file has a
 * lock on the bytes `unlocked`. It resolves to the first byte with a conflicting lock, or undefined
 * if there is none. It rejects with an error whose `code` is the errno name.
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
