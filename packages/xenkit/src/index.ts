/**
 * xenkit: Xen paravirtual devices in userspace. This list is what programs that serve or use disks
 * need. Authors of other devices find the rest in `xenkit/device`.
 */
export {
  ArenaFullError,
  type ErrorDetails,
  EvtchnError,
  GrantError,
  type Hypervisor,
  HypervisorClosedError,
  NegotiationError,
  NotAvailableError,
  PeerError,
  RingProtocolError,
  XenError,
  XenstoreError,
} from '@xenkit/hypervisor'
export { type SimDomain, type SimMachine, createMachine } from '@xenkit/sim'
export { type XenstoreClient, openXenstore } from '@xenkit/xenstore-client'
export {
  type BlockStore,
  type DiscardLimits,
  type DiscardOptions,
  LEAVES_BUFFERS,
  type OpenSharedStore,
  type SectorSize,
  type SharedStore,
  type StoreBatch,
  type StoreBatchOptions,
  type StoreJobs,
  type StoreResult,
  type StoreWrite,
} from '@xenkit/block-store'
export { DeviceAbandonedError, RingThreadError, type Workers } from '@xenkit/backend'
export {
  type OpenVbdOptions,
  ChangeRefusedError,
  type DataPathKind,
  type Disk,
  DiskError,
  type ListedDisk,
  type PlugVbdOptions,
  type PrintLine,
  type RequestedDisk,
  type ServedDisk,
  type ServeVbdOptions,
  type StoreAnswer,
  type StoreFunction,
  StoreInUseError,
  VBD_BACKEND_TYPES,
  type VbdAddress,
  type VbdBackendType,
  type VbdEvent,
  type VbdStats,
  openVbd,
  changeVbdMedium,
  eventLog,
  listVbds,
  parseVdev,
  plugVbd,
  resizeVbd,
  serveVbd,
  unplugVbd,
  vdevName,
} from '@xenkit/vbd'
export {
  type CacheOptions,
  type EncryptionOptions,
  type Fault,
  type FaultOdds,
  type FileStore,
  type FileStoreOptions,
  ImageError,
  type LiveStore,
  type MemoryStore,
  NbdError,
  type NbdEvent,
  NbdProtocolError,
  type NbdStore,
  type NbdStoreOptions,
  type OpenMemoryStoreOptions,
  type OpenedMemoryStore,
  type OverlayOptions,
  type OverlayStore,
  type Rate,
  type Snapshot,
  SnapshotError,
  type SnapshotOptions,
  type SparseStore,
  type StoreCall,
  type ThrottleOptions,
  cachedStore,
  encryptedStore,
  faultyStore,
  memoryStore,
  openNbdStore,
  overlayStore,
  randomFaults,
  snapshotStore,
  sparseStore,
  throttledStore,
} from '@xenkit/stores'
export { openFileStore } from './open-file-store.ts'
export { openMemoryStore } from './open-memory-store.ts'
export { type OpenHypervisorOptions, openHypervisor } from './open-hypervisor.ts'
export { openWorkers } from './open-workers.ts'
export { warmUp } from './warm-up.ts'
export {
  type Card,
  Checksum,
  Frames,
  Gso,
  type Link,
  type LinkEnd,
  type Offloads,
  type PluggedLink,
} from '@xenkit/frames'
export { type Cable, openCable } from '@xenkit/links'
