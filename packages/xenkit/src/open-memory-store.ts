import { type MemoryCalls, type OpenedMemoryStore, openMemoryStore as openWith } from '@xenkit/vbd/stores'
import { openMemory } from '@xenkit/xen'

/**
 * `openMemoryStore` of @xenkit/vbd, which wherever the addon is built keeps the disk in a mapping of its own: data is copied between it and the guest's
 * pages without a system call. Workers of `serveVbd` can serve it then.
 */
export const openMemoryStore = (source: number | string): Promise<OpenedMemoryStore> => openWith(source, { ...memoryCalls(), shareBy: () => import.meta.resolve('xenkit/shared-memory-store') })

function memoryCalls(): MemoryCalls {
  const open = openMemory()
  return open ? { openMemory: open } : {}
}
