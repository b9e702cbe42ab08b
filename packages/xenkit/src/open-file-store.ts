import { type FileStore, type FileStoreOptions, openFileStore as openWith } from '@xenkit/vbd/stores'
import { discardRange } from '@xenkit/xen'

/** `openFileStore` of @xenkit/vbd, whose discards punch holes wherever the addon is built. */
export function openFileStore(path: string, o: FileStoreOptions = {}): Promise<FileStore> {
  const discard = discardRange()
  return openWith(path, discard === undefined ? o : { discardRange: discard, ...o })
}
