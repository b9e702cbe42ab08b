export * from './backend-device.ts'
export * from './backend-driver.ts'
export * from './backend-state.ts'
export * from './device-path.ts'
export * from './frontend-device.ts'
export {
  type PublishedRing,
  type RingNodes,
  isStillPublished,
  queueDirectories,
  readRings,
} from './ring-nodes.ts'
export * from './rings.ts'
export * from './serve-backends.ts'
export { lenient, ofOtherEnd } from './node-access.ts'
export { type NodeValues, backendDeviceNodes, frontendDeviceNodes } from './nodes.ts'
export { changeDevice } from './change-device.ts'
export * from './toolstack.ts'
