export { type FileStore, type FileStoreOptions, openFileStoreWith } from './file.ts'
export {
  type DiscardRange,
  type FileCalls,
  type OpenFileBatch,
  type SharedImage,
  sharedFileStore,
} from './image-store.ts'
export type { LockBytes } from './image-locks.ts'
export { ImageError } from './image-error.ts'
export { type MemoryStore, memoryStore } from './memory.ts'
export {
  type MemoryCalls,
  type MemoryImage,
  type OpenMemory,
  type SharedMemory,
  sharedMemoryStore,
} from './memory-image.ts'
export {
  type OpenedMemoryStore,
  type OpenMemoryStoreOptions,
  openMemoryStoreWith,
} from './open-memory.ts'
export { type OverlayOptions, type OverlayStore, overlayStore } from './overlay.ts'
export { type SparseStore, sparseStore } from './sparse.ts'
export { type Fault, type FaultOdds, type StoreCall, faultyStore, randomFaults } from './fault.ts'
export { type Rate, type ThrottleOptions, throttledStore } from './throttle.ts'
export { type EncryptionOptions, encryptedStore } from './encrypted.ts'
export {
  type LiveStore,
  type Snapshot,
  SnapshotError,
  type SnapshotOptions,
  snapshotStore,
} from './snapshot.ts'
export { type CacheOptions, cachedStore } from './cached.ts'
export type { NbdEvent } from './nbd/links.ts'
export { NbdError, NbdProtocolError } from './nbd/nbd-error.ts'
export { type NbdStore, type NbdStoreOptions, openNbdStore } from './nbd/store.ts'
