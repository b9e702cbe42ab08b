/**
 * Opens, in a worker, a memory disk of another thread. `openMemoryStore` of xenkit names this
 * module in its `share`.
 */
import { NotAvailableError } from '@xenkit/hypervisor'
import { type SharedMemory, sharedMemoryStore } from '@xenkit/stores'
import { openMemory } from '@xenkit/xen'

/** Opens the disk in this thread; its type is `OpenSharedStore`. */
export default function open(
  memory: SharedMemory,
  size: { readonly sectors: number },
): ReturnType<typeof sharedMemoryStore> {
  const opens = openMemory()
  if (!opens) {
    throw new NotAvailableError(
      "the addon can't be loaded in this thread, which the disk's own thread has",
    )
  }
  return sharedMemoryStore(memory, size, opens)
}
