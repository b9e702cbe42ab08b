export {
  type BlockStore,
  type DiscardLimits,
  type DiscardOptions,
  LEAVES_BUFFERS,
  MAX_SECTORS,
  type OpenSharedStore,
  type SectorSize,
  type SharedStore,
  type StoreResult,
  type StoreWrite,
  byteLength,
  bytesMoved,
  discardLimitsOf,
  isPromise,
  isSectorSize,
} from './block-store.ts'
export {
  MAX_GRANULARITY,
  MAX_PHYSICAL_SECTOR,
  hintedDiscardLimits,
  hintedPhysicalSize,
} from './hints.ts'
export type { StoreBatch, StoreBatchOptions, StoreJobs } from './store-batch.ts'
