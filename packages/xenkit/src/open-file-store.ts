import { type FileStore, type FileStoreOptions, openFileStore as openWith } from '@xenkit/vbd/stores'
import { discardRange, openFileBatch } from '@xenkit/xen'

/** `openFileStore` of @xenkit/vbd, which wherever the addon is built punches holes and doesn't go through Node's thread pool. */
export function openFileStore(path: string, o: FileStoreOptions = {}): Promise<FileStore> {
  const [discard, batch] = [discardRange(), openFileBatch()]
  return openWith(path, { ...(discard && { discardRange: discard }), ...(batch && { openFileBatch: batch }), ...o })
}
