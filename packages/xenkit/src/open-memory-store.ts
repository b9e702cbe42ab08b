import {
  type MemoryCalls,
  type OpenMemoryStoreOptions,
  type OpenedMemoryStore,
  openMemoryStore as openWith,
} from '@xenkit/stores'
import { lockBytes, openMemory } from '@xenkit/xen'

/**
 * `openMemoryStore` of @xenkit/vbd, which wherever the addon is built keeps the disk in a mapping
 * of its own: data is copied between it and the guest's pages without a system call. Workers of
 * `serveVbd` can serve it then.
 */
export const openMemoryStore = (
  source: number | string,
  o: OpenMemoryStoreOptions = {},
): Promise<OpenedMemoryStore> =>
  openWith(source, {
    ...memoryCalls(),
    shareBy: () => import.meta.resolve('xenkit/shared-memory-store'),
    ...o,
  })

function memoryCalls(): MemoryCalls & Pick<OpenMemoryStoreOptions, 'lockBytes'> {
  const [open, lock] = [openMemory(), lockBytes()]
  return { ...(open && { openMemory: open }), ...(lock && { lockBytes: lock }) }
}
