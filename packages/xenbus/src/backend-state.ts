/**
 * The backend's half of the xenbus state machine (xenbus.h), as a pure function: what is in xenstore
 * now decides what to do next. Watches may fire late, twice or for nothing, and two changes may be
 * seen as one, so a step depends on levels and never on which event woke it.
 *
 *     frontend          backend
 *                       1 Initialising   the toolstack made both directories
 *                       2 InitWait       probe: features are advertised
 *     3 Initialised                      ring and port are published (vif goes to 4 at once)
 *                       4 Connected      connect: ring mapped, port bound, geometry published
 *     4 Connected
 *     5 Closing         5 Closing
 *     6 Closed          6 Closed         disconnect: ring unmapped, port unbound
 *     1 Initialising    2 InitWait       a guest that rebooted, while `online` is 1
 */
import { XenbusState } from '@xenkit/wire'

/** What the store and this process hold of one device, read in one go. */
export interface BackendSnapshot {
  /** Own `state`; undefined when the toolstack has removed the device, or made another in its place. */
  readonly own: XenbusState | undefined
  /** The frontend's `state`; undefined when its directory, or its domain, is gone. */
  readonly peer: XenbusState | undefined
  /** Own `online`: the toolstack clears it when the device is to go for good. */
  readonly online: boolean
  /** What is served is there: the hotplug script, if one has to prepare it, said so. */
  readonly prepared: boolean
  /** Rings are mapped. */
  readonly connected: boolean
  /** What this side wants: `close` after a fault, so that the frontend may begin anew; `stop` for good. */
  readonly intent: 'serve' | 'close' | 'stop'
}

/**
 * - `connect`: attach to the published rings, then Connected
 * - `offer`: write Closed to InitWait again: the frontend begins anew
 * - `close`: write Closing, which asks the frontend to let go
 * - `settle`: the frontend has closed: answer what it sent before that, then as `disconnect`
 * - `disconnect`: detach, beginning nothing of what the rings still hold, then write Closed
 * - `remove`: nothing more will happen to this device; forget it
 * - `wait`: nothing to do until something changes
 */
export type BackendStep = 'connect' | 'offer' | 'close' | 'settle' | 'disconnect' | 'remove' | 'wait'

const { Unknown, Initialising, InitWait, Initialised, Connected, Closing, Closed } = XenbusState

export function backendStep({ own, peer, online, prepared, connected, intent }: BackendSnapshot): BackendStep {
  const gone = peer === undefined || peer === Unknown
  const beginsAnew = peer === Initialising || peer === InitWait
  if (own === undefined) return connected ? 'disconnect' : 'remove'
  if (own === Closed) {
    if (connected) return 'disconnect'
    if (!online || intent === 'stop') return 'remove'
    return beginsAnew ? 'offer' : 'wait'
  }
  if (peer === Closed) return connected ? 'settle' : 'disconnect'
  if (gone) return 'disconnect'
  if (own === Closing) return beginsAnew ? 'disconnect' : 'wait'
  // The toolstack writes Closing when it clears `online`, which a step of this side may have overwritten.
  if (peer === Closing || !online || intent !== 'serve') return 'close'
  // The frontend began anew without closing: its old ring is void (kexec, a crashed guest kernel).
  if (connected) return beginsAnew ? 'disconnect' : 'wait'
  // A state that this side didn't write: back to one that both sides know.
  if (own !== InitWait) return 'close'
  // Connected is taken like Initialised: the watch for the state between may have been missed.
  return prepared && (peer === Initialised || peer === Connected) ? 'connect' : 'wait'
}
