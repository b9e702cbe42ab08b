import {
  type OpenMemoryStoreOptions,
  type OpenedMemoryStore,
  openMemoryStoreWith,
} from '@xenkit/stores'
import { lockBytes, openMemory } from '@xenkit/xen'

/**
 * Opens a disk in memory, which ends with `close` or the process. With the addon, the disk takes
 * memory only for what was written, and frees the memory of discarded ranges. Data moves to and
 * from the guest's pages without a system call, and workers of `serveVbd` can serve the disk.
 * Without the addon, the disk is an array of its whole size.
 * @param source size of a zeroed disk in sectors, 1..2^43, or the path of an image to read into
 * memory. Changes aren't written to the image.
 * @throws ImageError when the image can't be read
 * @throws RangeError when the size is out of range
 */
export const openMemoryStore = (
  source: number | string,
  o: OpenMemoryStoreOptions = {},
): Promise<OpenedMemoryStore> =>
  openMemoryStoreWith(
    {
      openMemory: openMemory(),
      lockBytes: lockBytes(),
      shareBy: () => import.meta.resolve('xenkit/shared-memory-store'),
    },
    source,
    o,
  )
