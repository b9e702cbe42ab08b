/** What a disk can do: what its requests are held against, and what its nodes say of it. */
import { expectInteger } from '@xenkit/hypervisor'
import { VDISK } from '@xenkit/wire'
import type { NodeValues } from '@xenkit/xenbus'
import {
  type BlockStore,
  MAX_SECTORS,
  type SectorSize,
  discardLimitsOf,
  isSectorSize,
} from '@xenkit/block-store'
import { MAX_GRANULARITY, MAX_PHYSICAL_SECTOR } from '@xenkit/block-store'
import { diskNodes } from '../nodes.ts'
import { Drive } from './drive.ts'

export interface Limits {
  /** Changes when the store's size does: also for requests that have been checked and not begun. */
  sectors: number
  /** Sectors of a logical sector less one: a number that has one of these bits is misaligned. */
  readonly sectorMask: number
  readonly writable: boolean
  /** Barriers too, which are made of flushes. */
  readonly flush: boolean
  readonly discard: boolean
  /** Without it a secure discard is a discard (blkif.h: the flag is ignored). */
  readonly secureDiscard: boolean
}

/** What the toolstack says of a disk. */
export interface DiskPolicy {
  readonly readOnly: boolean
  readonly cdrom: boolean
  readonly removable: boolean
  /** May offer discard. */
  readonly discard: boolean
}

/** @throws TypeError, RangeError for a store that can't be served */
export function limitsOf(store: BlockStore, policy: DiskPolicy): Limits {
  const sectorSize = sectorSizeOf(store)
  const { granularity, alignment, maximum } = discardLimitsOf(store)
  expectInteger('store.discardLimits.granularity', granularity, sectorSize, MAX_GRANULARITY)
  expectInteger('store.discardLimits.alignment', alignment, 0, MAX_GRANULARITY)
  if ((granularity | alignment) % sectorSize !== 0) {
    throw new RangeError(
      `"store.discardLimits" expected multiples of the sector size, ${sectorSize}, got ${granularity} at ${alignment}`,
    )
  }
  if (!(maximum >= sectorSize)) {
    const name = 'store.discardLimits.maximum'
    throw new RangeError(`"${name}" expected ${sectorSize} or more, got ${maximum}`)
  }
  const physical = store.physicalSectorSize ?? sectorSize
  expectInteger('store.physicalSectorSize', physical, sectorSize, MAX_PHYSICAL_SECTOR)
  if ((physical & (physical - 1)) !== 0) {
    throw new RangeError(`"store.physicalSectorSize" expected a power of two, got ${physical}`)
  }
  return {
    sectors: sectorsOf(store),
    sectorMask: sectorSize / 512 - 1,
    writable: store.write !== undefined && !policy.readOnly,
    flush: store.flush !== undefined,
    discard: store.discard !== undefined && policy.discard,
    secureDiscard: store.discardLimits?.secure ?? false,
  }
}

/**
 * Limits that go to other threads, which see it when `sectors` changes: it lies in memory that they
 * share.
 */
export interface SharedLimits extends Limits {
  readonly size: Float64Array
}

export function shareLimits(limits: Limits): SharedLimits {
  const size = new Float64Array(new SharedArrayBuffer(Float64Array.BYTES_PER_ELEMENT))
  size[0] = limits.sectors
  return sharedLimits({ ...limits, size })
}

/** @param limits as they came from another thread, too: with a number for what is memory */
export function sharedLimits(limits: SharedLimits): SharedLimits {
  const { size } = limits
  return {
    ...limits,
    get sectors() {
      return size[0] ?? 0
    },
    set sectors(sectors) {
      size[0] = sectors
    },
  }
}

/** @throws TypeError, RangeError for a size that can't be */
export function sectorsOf(store: BlockStore): number {
  // Bytes of an image by 512. What is behind the last whole sector is not to be dropped in silence.
  if (store.sectors > 0 && store.sectors % 1 !== 0) {
    const found = `expected whole sectors of 512 bytes, got ${store.sectors}`
    throw new TypeError(`"store.sectors" ${found}: pad the image to a multiple of 512`)
  }
  // A drive may be empty.
  expectInteger('store.sectors', store.sectors, store instanceof Drive ? 0 : 1, MAX_SECTORS)
  if (store.sectors % (sectorSizeOf(store) / 512) !== 0) {
    throw new RangeError(
      `"store.sectors" expected whole sectors of ${sectorSizeOf(store)} bytes, got ${store.sectors} of 512`,
    )
  }
  return store.sectors
}

function sectorSizeOf({ sectorSize = 512 }: BlockStore): SectorSize {
  if (!isSectorSize(sectorSize)) {
    const expected = 'a power of two, 512..4096'
    throw new RangeError(`"store.sectorSize" expected ${expected}, got ${String(sectorSize)}`)
  }
  return sectorSize
}

/**
 * What follows a disk's size. That has to be a multiple of its physical sectors (blkif.h): these
 * may be smaller than the store's.
 */
export function describeSize(store: BlockStore, { sectors }: Limits): NodeValues {
  let physical = store.physicalSectorSize ?? sectorSizeOf(store)
  while ((sectors * 512) % physical !== 0) physical /= 2
  return diskNodes.format({ sectors, 'physical-sector-size': physical })
}

/** What a backend publishes before Connected. */
export function describeDisk(
  store: BlockStore,
  o: { readonly limits: Limits; readonly policy: DiskPolicy; readonly persistent: boolean },
): NodeValues {
  const { limits, policy } = o
  const { granularity, alignment } = discardLimitsOf(store)
  const discard = limits.discard && limits.writable
  const nodes = diskNodes.format({
    'sector-size': sectorSizeOf(store),
    info:
      (limits.writable ? 0 : VDISK.READONLY) |
      (policy.cdrom ? VDISK.CDROM : 0) |
      (policy.removable ? VDISK.REMOVABLE : 0),
    // No node where there is no support (blkif.h): illumos' xdf takes any value of one for support.
    'feature-flush-cache': limits.flush || undefined,
    'feature-barrier': limits.flush || undefined,
    'feature-discard': discard || undefined,
    ...(discard
      ? {
          'discard-granularity': granularity,
          'discard-alignment': alignment,
          'discard-secure': limits.secureDiscard,
        }
      : {}),
    'feature-persistent': o.persistent,
  })
  return { ...describeSize(store, limits), ...nodes }
}
