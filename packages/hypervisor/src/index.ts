export {
  type Arena,
  type ArenaTenant,
  DEFAULT_ARENA_PAGES,
  PAGE_SIZE,
  type Pages,
} from './arena.ts'
export { DOMID_MAX, UINT32_MAX, expectHypervisor, expectInteger } from './arguments.ts'
export { closeAll, closeEach, failuresOf, firstOf } from './close-all.ts'
export {
  ArenaFullError,
  type ByteRingIndices,
  type ErrorDetails,
  EvtchnError,
  GrantError,
  HypervisorClosedError,
  NegotiationError,
  NotAvailableError,
  PeerError,
  type RingIndices,
  RingProtocolError,
  XenError,
  XenstoreError,
} from './errors.ts'
export { EventLoop, type GuestTurn } from './event-loop.ts'
export { Holds } from './holds.ts'
export { Owner } from './owner.ts'
export type {
  ByteStream,
  ByteStreamReceiver,
  EvtchnBinding,
  EvtchnPort,
  GrantCopyBatch,
  GrantMapping,
  GrantPort,
  GrantRef,
  GrantShare,
  Hypervisor,
  MapPagesOptions,
  MappedPages,
  UnmapNotify,
  XenstorePort,
} from './port.ts'
export { expectOdds, randomNumbers } from './random-numbers.ts'
export { printable, textOf } from './text.ts'
