/**
 * Memory disks, for stores: the addon holds the memory, and its block engine copies from and to it.
 */
import type { StoreBatchOptions } from '@xenkit/block-store'
import type { MemoryImage } from '@xenkit/native'
import { type ImageBatch, openMemoryBatch } from './block-engine.ts'
import { optionalNative } from './optional-native.ts'

/** Memory of a disk, which this thread has open. */
export interface OpenedMemory extends MemoryImage {
  openBatch(o: StoreBatchOptions): ImageBatch
}

/**
 * Returns a function that creates a disk's memory, or opens by id what another thread has created;
 * undefined where the addon can't be loaded.
 */
export function openMemory():
  | ((what: { readonly bytes: number } | { readonly id: number }) => OpenedMemory)
  | undefined {
  const native = optionalNative()
  if (!native) return undefined
  return (what) => {
    const image =
      'id' in what ? native.MemoryImage.open(what.id) : new native.MemoryImage(what.bytes)
    return Object.assign(image, {
      openBatch: (o: StoreBatchOptions) => openMemoryBatch(native, image, o),
    })
  }
}
