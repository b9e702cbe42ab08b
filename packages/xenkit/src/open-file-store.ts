import { type FileCalls, type FileStore, type FileStoreOptions, openFileStore as openWith } from '@xenkit/vbd/stores'
import { discardRange, openFileBatch } from '@xenkit/xen'

/** `openFileStore` of @xenkit/vbd, which wherever the addon is built punches holes and doesn't go through Node's thread pool. Workers of `serveVbd` can serve it. */
export const openFileStore = (path: string, o: FileStoreOptions = {}): Promise<FileStore> => openWith(path, { ...fileCalls(), shareBy: () => import.meta.resolve('xenkit/shared-file-store'), ...o })

export function fileCalls(): FileCalls {
  const [discard, batch] = [discardRange(), openFileBatch()]
  return { ...(discard && { discardRange: discard }), ...(batch && { openFileBatch: batch }) }
}
