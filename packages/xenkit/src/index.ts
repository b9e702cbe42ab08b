/**
 * xenkit: Xen paravirtual devices in userspace. The other packages have entry points of their own
 * for everything that isn't exported here.
 */
export * from '@xenkit/hypervisor'
export { type SimDomain, type SimMachine, createMachine } from '@xenkit/sim'
export * from '@xenkit/vbd'
export * from '@xenkit/stores'
export { type XenstoreClient, openXenstore } from '@xenkit/xenstore-client'
export { openFileStore } from './open-file-store.ts'
export { openMemoryStore } from './open-memory-store.ts'
export { type OpenHypervisorOptions, openHypervisor } from './open-hypervisor.ts'
export { type ServeVbdOptions, serveVbd } from './serve-vbd.ts'
