/**
 * `xenkit/device`: what an author of a device needs besides `xenkit` itself, by name. It re-exports
 * the packages below, since a project that installs `xenkit` alone can't import those under pnpm.
 */
export {
  type AnsweredMessages,
  connectMessages,
  type ConnectMessagesOptions,
  Counters,
  type DeviceType,
  type DriverContext,
  MessageWork,
  openGuestTurn,
  PagePool,
  RingServer,
  type RingServerParts,
  type RingWork,
  RowState,
  RowTable,
  serveDevices,
  type ServedRing,
  ServedRings,
  type ServedRingsOptions,
  type ServeOptions,
} from '@xenkit/backend'
export { EventChannel } from '@xenkit/evtchn'
export { ArenaShare, GrantCopier, GrantTable, PersistentGrants } from '@xenkit/grant'
export { type EventLoop, type GuestTurn, Owner } from '@xenkit/hypervisor'
export { BackRing, ByteRingConsumer, ByteRingProducer, FrontRing } from '@xenkit/ring'
export {
  array,
  cstruct,
  type CStruct,
  cunion,
  type Fields,
  type FieldsOf,
  type FieldsToEncode,
  i16,
  i32,
  i64,
  i8,
  netstruct,
  padding,
  type RingMessages,
  ringMessages,
  u16,
  u32,
  u64,
  u8,
  XenbusState,
} from '@xenkit/wire'
export {
  attachRing,
  type BackendConnection,
  type BackendDevice,
  type BackendDriver,
  type BackendEvent,
  changeDevice,
  type CloseOptions,
  type ConnectedRing,
  type DeviceAddress,
  FrontendDevice,
  isStillPublished,
  type NodeValues,
  type OpenedRing,
  openRing,
  plugDevice,
  type PublishedRing,
  queueDirectories,
  readRings,
  type RingNodes,
  unplugDevice,
} from '@xenkit/xenbus'
export { defineNodes, type NodeDefinition, type NodeTable } from '@xenkit/xenstore-client'
