import {
  type FileCalls,
  type FileStore,
  type FileStoreOptions,
  openFileStore as openWith,
} from '@xenkit/stores'
import { discardRange, lockBytes, openFileBatch } from '@xenkit/xen'

/**
 * `openFileStore` of @xenkit/vbd, which wherever the addon is built locks images, punches holes and
 * doesn't go through Node's thread pool. Workers of `serveVbd` can serve it.
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

export function fileCalls(): FileCalls {
  const [discard, batch, lock] = [discardRange(), openFileBatch(), lockBytes()]
  return {
    ...(discard && { discardRange: discard }),
    ...(batch && { openFileBatch: batch }),
    ...(lock && { lockBytes: lock }),
  }
}

let warned = false

/** Once: it is the machine's lack, not the image's. */
function warnOfLocks(): void {
  if (warned) return
  warned = true
  process.emitWarning(
    "images aren't locked, since the native addon can't be loaded: let nobody else write to them",
    { type: 'XenkitWarning', code: 'XENKIT_NO_LOCKS' },
  )
}
