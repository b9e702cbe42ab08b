export type { ServeVbdOptions, StoreAnswer, StoreFunction } from './backend/serve-vbd-options.ts'
export { serveVbd } from './backend/serve-vbd.ts'
export type { ServedDisk, VbdEvent } from './backend/vbd-event.ts'
export { ChangeRefusedError, StoreInUseError } from './backend/disk-errors.ts'
export { DeviceAbandonedError } from '@xenkit/backend'
export { eventLog } from './backend/event-log.ts'
export type { PrintLine } from '@xenkit/backend'
export { diskRings } from './backend/disk-rings.ts'
export type { DataPathKind } from './backend/data-path.ts'
export type { VbdStats } from './backend/stats.ts'
export type { BlockStore, StoreResult, StoreWrite } from '@xenkit/block-store'
export { LEAVES_BUFFERS } from '@xenkit/block-store'
export type { OpenSharedStore, SharedStore } from '@xenkit/block-store'
export type { StoreBatch, StoreBatchOptions, StoreJobs } from '@xenkit/block-store'
export { type OpenVbdOptions, openVbd } from './frontend/open-vbd.ts'
export { type Disk, DiskError } from './frontend/disk.ts'
export { type ListedDisk, listVbds } from './list.ts'
export {
  type PlugVbdOptions,
  type VbdAddress,
  changeVbdMedium,
  plugVbd,
  resizeVbd,
  unplugVbd,
} from './plug.ts'
export { type RequestedDisk, VBD_BACKEND_TYPES, type VbdBackendType } from './requested-disk.ts'
export { parseVdev, vdevName } from './vdev.ts'
export { type PlayedHypervisor, warmUpRings } from './backend/warm-up.ts'
