/**
 * Locks that keep two programs from writing to one image. The scheme is QEMU's
 * (block/file-posix.c), so that QEMU, qemu-nbd and qemu-img respect it too.
 *
 * Each permission has two bytes of the file. A program locks the first if it uses the permission,
 * and the second if it denies the permission to others. All locks are shared locks. After taking
 * its own, each program checks for contradicting locks of others. The locks belong to the open file
 * and end with it.
 */
import type { FileHandle } from 'node:fs/promises'
import { ImageError } from './image-error.ts'
import { lockHolder } from './lock-holder.ts'

/**
 * Takes shared locks on the bytes `take` of an open file. Then it checks that no other open file
 * has a lock on the bytes `unlocked`, and resolves to the first byte that has one.
 */
export type LockBytes = (
  fd: number,
  take: readonly number[],
  unlocked: readonly number[],
) => Promise<number | undefined>

/** Numbers of the bits of BLK_PERM_CONSISTENT_READ, BLK_PERM_WRITE and BLK_PERM_RESIZE. */
const [READ, WRITE, RESIZE] = [0, 1, 3]
/** Position of the byte that is locked by those who use a permission: RAW_LOCK_PERM_BASE. */
const held = (permission: number): number => 100 + permission
/**
 * Position of the byte that is locked by those who deny others a permission: RAW_LOCK_SHARED_BASE.
 */
const denied = (permission: number): number => 200 + permission

const conflicts = new Map([
  [held(WRITE), 'writes to it'],
  [held(RESIZE), 'may resize it'],
  [denied(READ), 'lets nobody else read it'],
  [denied(WRITE), 'lets nobody else write to it'],
  [denied(RESIZE), 'lets nobody else resize it'],
])

/**
 * Denies writing to other programs; a reader shares the image with other readers.
 * @throws ImageError if another program uses the image in conflict, or it can't be locked
 */
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
