export { Checksum, type FrameDescription, Frames, Gso, MAX_FRAME, MIN_FRAME } from './frames.ts'
export {
  ALL_OFFLOADS,
  type Card,
  type Link,
  type LinkEnd,
  NO_OFFLOADS,
  type Offloads,
  type PluggedLink,
} from './link.ts'
