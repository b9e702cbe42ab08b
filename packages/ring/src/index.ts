export { BackRing } from './back-ring.ts'
export { FrontRing } from './front-ring.ts'
export type { RingMemory } from './ring-end.ts'
