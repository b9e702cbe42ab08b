export {
  type BatchOptions,
  type FileBatchOptions,
  type ImageBatch,
  openFileBatch,
} from './block-engine.ts'
export { discardRange } from './discard.ts'
export { lockBytes } from './lock-bytes.ts'
export { openMemory, type OpenedMemory } from './memory-image.ts'
export { UNLOAD_KERNEL_BACKEND, hasKernelBackend } from './kernel-backend.ts'
export { type Loopback, openLoopback } from './loopback.ts'
export { openXen, openXenControl, type OpenXenOptions, type XenControl } from './open-xen.ts'
export { probeXen, type XenCheck, type XenProbe } from './probe-xen.ts'
export { xenstoreSocket } from './xenstored-socket.ts'
