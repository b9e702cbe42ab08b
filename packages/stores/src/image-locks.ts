/**
 * Locks that keep two programs from one image. They are QEMU's (block/file-posix.c), so that QEMU,
 * qemu-nbd and qemu-img keep away as well. Each permission has two bytes of the file: who has the
 * permission locks the first, who lets nobody else have it the second. All locks are shared ones.
 * After taking its own, each program looks whether another has locks that contradict. They belong
 * to the open file and end with it.
 */
import type { FileHandle } from 'node:fs/promises'
import { ImageError } from './image-error.ts'
import { lockHolder } from './lock-holder.ts'

/**
 * Takes shared locks on some bytes of an open file, then looks whether another open file has locks
 * on others. Resolves to the first byte where another's lock is in the way, if there is one.
 */
export type LockBytes = (
  fd: number,
  take: readonly number[],
  unlocked: readonly number[],
) => Promise<number | undefined>

/** Numbers of the bits of BLK_PERM_CONSISTENT_READ, BLK_PERM_WRITE and BLK_PERM_RESIZE. */
const [READ, WRITE, RESIZE] = [0, 1, 3]
/** The byte of a permission that somebody has: RAW_LOCK_PERM_BASE. */
const held = (permission: number): number => 100 + permission
/** The byte of a permission that somebody lets nobody else have: RAW_LOCK_SHARED_BASE. */
const denied = (permission: number): number => 200 + permission

const conflicts = new Map([
  [held(WRITE), 'writes to it'],
  [held(RESIZE), 'may resize it'],
  [denied(READ), 'lets nobody else read it'],
  [denied(WRITE), 'lets nobody else write to it'],
  [denied(RESIZE), 'lets nobody else resize it'],
])

/** Nobody else may write to the image from now on; who reads may share it with others that do. */
export async function lockImage(
  lockBytes: LockBytes,
  file: FileHandle,
  o: { readonly path: string; readonly readOnly: boolean },
): Promise<void> {
  const { path } = o
  const own = o.readOnly ? [READ] : [READ, WRITE, RESIZE]
  const others = [WRITE, RESIZE]
  const take = [...own.map(held), ...others.map(denied)]
  const byte = await lockBytes(file.fd, take, [...others.map(held), ...own.map(denied)]).catch(
    (cause: NodeJS.ErrnoException) => {
      const errno = cause.code
      if (errno === undefined) throw cause
      throw new ImageError(
        `image "${path}" can't be locked (${errno}): serve it without "locking"`,
        { path, errno },
        { cause },
      )
    },
  )
  if (byte === undefined) return
  const holder = (await lockHolder(file.fd, byte)) ?? 'another program'
  const user = `${holder}, which ${conflicts.get(byte) ?? 'locks it'}`
  throw new ImageError(
    `image "${path}" is in use by ${user}: end that, or serve it without "locking"`,
    { path, errno: 'EBUSY' },
  )
}
