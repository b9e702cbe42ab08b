import {
  type FileCalls,
  type FileStore,
  type FileStoreOptions,
  openFileStoreWith,
} from '@xenkit/stores'
import { discardRange, lockBytes, openFileBatch } from '@xenkit/xen'

/**
 * Opens a disk image or a block device, to be served until `close`. With the addon the image is
 * locked, discards punch holes, data bypasses Node's thread pool, and workers of `serveVbd` can
 * serve it. Without the addon a warning says once that images aren't locked.
 * @throws ImageError when it can't be opened, isn't a file or block device, is empty, isn't a
 *   multiple of its sectors long, is in use, or is a container: the text says what to do
 */
export async function openFileStore(path: string, o: FileStoreOptions = {}): Promise<FileStore> {
  const calls = fileCalls()
  const store = await openFileStoreWith(calls, path, o)
  const { readOnly = false, locking = true } = o
  if (locking && !calls.lockBytes && !readOnly) warnOfLocks()
  return store
}

/** Returns the addon's calls on files; each is undefined where the addon can't be loaded. */
export const fileCalls = (): FileCalls => ({
  discardRange: discardRange(),
  openFileBatch: openFileBatch(),
  lockBytes: lockBytes(),
  shareBy: () => import.meta.resolve('xenkit/shared-file-store'),
})

let warned = false

/** Warns once per process, because the missing addon concerns the machine, not the image. */
function warnOfLocks(): void {
  if (warned) return
  warned = true
  process.emitWarning(
    "images aren't locked, because the native addon can't be loaded: make sure that nobody else writes to them",
    { type: 'XenkitWarning', code: 'XENKIT_NO_LOCKS' },
  )
}
