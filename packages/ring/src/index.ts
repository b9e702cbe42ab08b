export { BackRing } from './back-ring.ts'
export { ByteRingConsumer, ByteRingProducer, type ByteRingMemory } from './byte-ring.ts'
export { FrontRing } from './front-ring.ts'
export type { RingMemory } from './ring-end.ts'
