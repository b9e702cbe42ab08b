export { abandonAfter, DeviceAbandonedError, unlessAborted } from './abandoned.ts'
export { AdaptivePoll } from './adaptive-poll.ts'
export { connectMessages, type ConnectMessagesOptions } from './connect-messages.ts'
export { Counters } from './counters.ts'
export { deviceLog, type DeviceLogOptions, type PrintLine } from './device-log.ts'
export { openGuestTurn, TURN } from './guest-turn.ts'
export { type AnsweredMessages, MessageWork } from './message-work.ts'
export { type Buffer, type ExtentSizes, PagePool } from './page-pool.ts'
export { PUBLISH_AT_MOST, RingServer, type RingServerParts, type RingWork } from './ring-server.ts'
export { type ColumnType, RowState, RowTable } from './row-table.ts'
export {
  type DeviceType,
  type DriverContext,
  serveDevices,
  type ServeOptions,
  tellListener,
} from './serve-devices.ts'
export { type ServedRing, ServedRings, type ServedRingsOptions } from './served-rings.ts'
export { type CrossingError, packError, unpackError } from './threads/crossing-error.ts'
export type { Port } from './threads/messages.ts'
export {
  type RingHost,
  type RingHostOptions,
  type RingHosts,
  serveRings,
} from './threads/serve-rings.ts'
export {
  RingThreadError,
  type RingThread,
  Workers,
  type WorkersConnectOptions,
} from './threads/workers.ts'
