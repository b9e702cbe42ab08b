export { connectXenstoreRing, type XenstoreRingEnd } from './connect-xenstore-ring.ts'
export type { Bind } from './ring-turns.ts'
export {
  serveXenstoreRing,
  type StoreConnection,
  type XenstoreRingOptions,
  type XenstoreRingServer,
} from './serve-xenstore-ring.ts'
