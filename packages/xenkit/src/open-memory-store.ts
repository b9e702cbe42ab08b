import {
  type MemoryCalls,
  type OpenMemoryStoreOptions,
  type OpenedMemoryStore,
  openMemoryStore as openWith,
} from '@xenkit/stores'
import { lockBytes, openMemory } from '@xenkit/xen'

/**
 * Opens a memory disk as `openMemoryStore` of @xenkit/stores does. Where the addon is built, the
 * disk is a memory mapping of its own: data is copied between it and the guest's pages without a
 * system call, and workers of `serveVbd` can serve it.
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
