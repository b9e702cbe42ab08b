export { addSums, ChecksumUnit } from './checksum.ts'
export { FlowHash, HashType, MAX_HASH_KEY } from './flow-hash.ts'
export { FrameSender } from './frame-sender.ts'
export { Checksum, type FrameDescription, Frames, Gso, MAX_FRAME, MIN_FRAME } from './frames.ts'
export { EtherType, Headers, IpProtocol, NO_PROTOCOL, NO_VLAN } from './headers.ts'
export {
  ALL_OFFLOADS,
  type Card,
  type FrameMemory,
  type Link,
  type LinkEnd,
  NO_OFFLOADS,
  type Offloads,
  type PluggedLink,
} from './link.ts'
export { formatMac, parseMac } from './mac-address.ts'
