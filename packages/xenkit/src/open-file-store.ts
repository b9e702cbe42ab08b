import {
  type FileCalls,
  type FileStore,
  type FileStoreOptions,
  openFileStore as openWith,
} from '@xenkit/stores'
import { discardRange, lockBytes, openFileBatch } from '@xenkit/xen'

/**
 * Opens an image as `openFileStore` of @xenkit/stores does. Where the addon is built, it also locks
 * the image, punches holes, and bypasses Node's thread pool. Workers of `serveVbd` can serve the
 * store.
 * @throws ImageError if the image can't be opened or is in use
 */
export async function openFileStore(path: string, o: FileStoreOptions = {}): Promise<FileStore> {
  const options = {
    ...fileCalls(),
    shareBy: () => import.meta.resolve('xenkit/shared-file-store'),
    ...o,
  }
  const store = await openWith(path, options)
  const { readOnly = false, locking = true, lockBytes: lock } = options
  if (locking && !lock && !readOnly) warnOfLocks()
  return store
}

/** Returns the addon's calls for file stores, or none where it can't be loaded. */
export function fileCalls(): FileCalls {
  const [discard, batch, lock] = [discardRange(), openFileBatch(), lockBytes()]
  return {
    ...(discard && { discardRange: discard }),
    ...(batch && { openFileBatch: batch }),
    ...(lock && { lockBytes: lock }),
  }
}

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
