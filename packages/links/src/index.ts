export { type Cable, openCable } from './cable.ts'
export {
  Capture,
  CapturedInterface,
  type CaptureOptions,
  captureLink,
  openCapture,
} from './capture/capture.ts'
export { type ErspanAddress, type ErspanOptions, openErspan } from './erspan.ts'
export {
  type FrameFault,
  type FrameFaultOdds,
  type PlannedFrame,
  faultLink,
  randomFrameFaults,
} from './fault.ts'
export { filterLink } from './filter.ts'
export type { FrameDirection } from './layer.ts'
export { LinkError } from './link-error.ts'
export { Mirror, mirrorLink, openMirror } from './mirror.ts'
export { Packet } from './packet.ts'
export { type PasstLink, type PasstOptions, openPasst } from './passt.ts'
export { type LinkRate, type RateLimits, type RateLink, type RateStats, rateLink } from './rate.ts'
export type { LinkEvent } from './reopening.ts'
export type { PortOptions } from './switch/port-settings.ts'
export type { PortStats, SwitchPort } from './switch/switch-port.ts'
export { type SwitchOptions, Switch, openSwitch } from './switch/switch.ts'
export type { UplinkOptions } from './switch/uplink.ts'
export type { PortVlan } from './switch/vlan.ts'
export { type TapLink, type TapOptions, openTapWith } from './tap.ts'
export type { TapCalls } from './tap-queue.ts'
export type { VirtualCardOptions } from './virtual-card.ts'
export { type FrameWatcher, WatchedLink, watchLink } from './watch.ts'
