/** A disk's capabilities and size: requests are checked against them, and nodes publish them. */
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

/** Limits that requests are checked against. */
export interface Limits {
  /**
   * Size, in units of 512 bytes. Changes with the store's size, also for requests that were checked
   * but not started.
   */
  sectors: number
  /**
   * 512-byte units of a logical sector, minus one. A sector number with any of these bits is
   * misaligned.
   */
  readonly sectorMask: number
  readonly writable: boolean
  /** Flushes, and barriers, which are made of flushes. */
  readonly flush: boolean
  readonly discard: boolean
  /** If false, a secure discard runs as a plain one: blkif.h has backends ignore the flag then. */
  readonly secureDiscard: boolean
}

/** Properties of a disk that the toolstack's nodes request. */
export interface DiskPolicy {
  readonly readOnly: boolean
  readonly cdrom: boolean
  readonly removable: boolean
  /** Whether discard may be offered. */
  readonly discard: boolean
}

/**
 * Checks a store's geometry and derives the limits of a disk that serves it.
 *
 * @throws TypeError, RangeError for a store that can't be served, naming the member
 */
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
 * Limits shared between threads: `sectors` lies in shared memory, so every thread sees a change.
 */
export interface SharedLimits extends Limits {
  readonly size: Float64Array
}

/** Copies limits into shared memory, to be sent to workers. */
export function shareLimits(limits: Limits): SharedLimits {
  const size = new Float64Array(new SharedArrayBuffer(Float64Array.BYTES_PER_ELEMENT))
  size[0] = limits.sectors
  return sharedLimits({ ...limits, size })
}

/**
 * Makes `sectors` read and write the shared memory. @param limits also as another thread received
 * them, where structured clone has replaced the accessors by a number
 */
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

/**
 * The size of a store, in units of 512 bytes.
 *
 * @throws TypeError, RangeError for a size that can't be served
 */
export function sectorsOf(store: BlockStore): number {
  // Probably an image's bytes divided by 512: a partial last sector must not be dropped silently.
  if (store.sectors > 0 && store.sectors % 1 !== 0) {
    const found = `expected whole sectors of 512 bytes, got ${store.sectors}`
    throw new TypeError(`"store.sectors" ${found}: pad the image to a multiple of 512`)
  }
  // An empty drive has 0 sectors.
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
 * Nodes that depend on a disk's size. blkif.h requires the size to be a multiple of the physical
 * sector, so a smaller one than the store's may be published.
 */
export function describeSize(store: BlockStore, { sectors }: Limits): NodeValues {
  let physical = store.physicalSectorSize ?? sectorSizeOf(store)
  while ((sectors * 512) % physical !== 0) physical /= 2
  return diskNodes.format({ sectors, 'physical-sector-size': physical })
}

/** All nodes that a backend publishes about a disk before Connected. */
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
    // No node rather than 0 for a missing feature: illumos' xdf takes any value for support.
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
