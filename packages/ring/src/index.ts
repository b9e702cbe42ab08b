export { BackRing } from './back-ring.ts'
export { ByteRingConsumer, ByteRingProducer, type ByteRingMemory } from './byte-ring.ts'
export { connectXenstoreRing, type XenstoreRingEnd } from './connect-xenstore-ring.ts'
export { FrontRing } from './front-ring.ts'
export type { RingMemory } from './ring-end.ts'
export type { Bind } from './ring-turns.ts'
export {
  serveXenstoreRing,
  type StoreConnection,
  type XenstoreRingOptions,
  type XenstoreRingServer,
} from './serve-xenstore-ring.ts'
