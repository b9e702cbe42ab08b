export { ServedDevice, type ServedDeviceOptions } from './backend-device.ts'
export type {
  BackendConnection,
  BackendDevice,
  BackendDriver,
  BackendEvent,
  CloseOptions,
} from './backend-driver.ts'
export { type BackendSnapshot, type BackendStep, backendStep } from './backend-state.ts'
export {
  type DeviceAddress,
  backendPath,
  backendRoot,
  domainHome,
  errorPath,
  errorRoot,
  frontendPath,
  libxlHome,
  libxlPath,
  refusalPath,
} from './device-path.ts'
export { type FrontendAddress, FrontendDevice } from './frontend-device.ts'
export {
  type PublishedRing,
  type RingNodes,
  isStillPublished,
  queueDirectories,
  readRings,
} from './ring-nodes.ts'
export {
  type AttachRingOptions,
  type ConnectedRing,
  type OpenRingOptions,
  type OpenedRing,
  attachRing,
  openRing,
} from './rings.ts'
export { type ServeBackendsOptions, serveBackends } from './serve-backends.ts'
export { type HotplugScript, hotplugScript } from './hotplug.ts'
export { lenient, ofOtherEnd } from './node-access.ts'
export { type NodeValues, backendDeviceNodes, frontendDeviceNodes } from './nodes.ts'
export { changeDevice } from './change-device.ts'
export { type ListDevicesOptions, type ListedDevice, listDevices } from './list-devices.ts'
export { type PlugOptions, ToolstackError, plugDevice, unplugDevice } from './toolstack.ts'
