/**
 * The backend's half of the xenbus state machine (xenbus.h), as a pure function: what is in
 * xenstore now decides what to do next. Watches may fire late, twice or for nothing, and two
 * changes may be seen as one, so a step depends on levels and never on which event woke it.
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
 *
 * A frontend may have passed several states between two looks, and published anew meanwhile.
 * Whatever it passed, it ends connected to what it published last, as blkback connects in every
 * state but Connected.
 */
import { XenbusState } from '@xenkit/wire'

/** What the store and this process hold of one device, read in one go. */
export interface BackendSnapshot {
  /**
   * Own `state`; undefined when the toolstack has removed the device, or made another in its place.
   */
  readonly own: XenbusState | undefined
  /** The frontend's `state`; undefined when its directory, or its domain, is gone. */
  readonly peer: XenbusState | undefined
  /** The frontend's `state` before this one, unless this side has answered since. */
  readonly peerBefore: XenbusState | undefined
  /**
   * Own `online`: the toolstack clears it when the device is to go for good. Undefined where there
   * is no such node: as in Linux's backends it then counts from when the frontend has closed, and
   * as cleared.
   */
  readonly online: boolean | undefined
  /** What is served is there: the hotplug script, if one has to prepare it, said so. */
  readonly prepared: boolean
  /**
   * The rings that are mapped: those that the frontend has published, or `stale` ones of an earlier
   * life.
   */
  readonly rings: 'none' | 'current' | 'stale'
  /**
   * What this side wants: `close` after a fault, so that the frontend may begin anew; `stop` for
   * good.
   */
  readonly intent: 'serve' | 'close' | 'stop'
  /** A device whose lives ended too quickly isn't offered again until this is true. */
  readonly mayOffer: boolean
}

/**
 * - `connect`: attach to the published rings, then Connected
 * - `offer`: detach from the rings of an earlier life, if any, then InitWait: the frontend begins
 *   anew or has begun
 * - `reopen`: write Connected again: the frontend has taken back its wish to close, and uses the
 *   same rings
 * - `close`: write Closing, which asks the frontend to let go
 * - `settle`: the frontend has closed: answer what it sent before that, then as `disconnect`
 * - `disconnect`: detach, beginning nothing of what the rings still hold, then write Closed
 * - `remove`: nothing more will happen to this device; forget it
 * - `wait`: nothing to do until something changes
 */
export type BackendStep =
  | 'connect'
  | 'offer'
  | 'reopen'
  | 'close'
  | 'settle'
  | 'disconnect'
  | 'remove'
  | 'wait'

const { Unknown, Initialising, InitWait, Initialised, Connected, Closing, Closed } = XenbusState

export function backendStep(snapshot: BackendSnapshot): BackendStep {
  const step = wantedStep(snapshot)
  if (step !== 'offer' || snapshot.mayOffer) return step
  return snapshot.own === Closed && snapshot.rings === 'none' ? 'wait' : 'disconnect'
}

function wantedStep({
  own,
  peer,
  peerBefore,
  online,
  prepared,
  rings,
  intent,
}: BackendSnapshot): BackendStep {
  const attached = rings !== 'none'
  const gone = peer === undefined || peer === Unknown
  const beginsAnew = peer === Initialising || peer === InitWait
  // Connected is taken like Initialised: the watch for the state between may have been missed.
  const hasPublished = peer === Initialised || peer === Connected
  const offline = online === false || (online === undefined && (gone || peer === Closed))
  const goes = offline || intent === 'stop'

  if (own === undefined) return attached ? 'disconnect' : 'remove'
  if (own === Closed) {
    if (attached) return 'disconnect'
    if (goes) return 'remove'
    return beginsAnew || hasPublished ? 'offer' : 'wait'
  }
  if (peer === Closed) return attached ? 'settle' : 'disconnect'
  if (gone) return 'disconnect'
  // The toolstack writes Closing when it clears `online`, which a step of this side may have
  // overwritten.
  if (goes || peer === Closing) {
    return own !== Closing ? 'close' : beginsAnew ? 'disconnect' : 'wait'
  }
  if (intent === 'close' && own !== Closing) return 'close'

  // The device is wanted, and its frontend neither closes nor has closed.
  if (beginsAnew) return own === InitWait && !attached ? 'wait' : 'offer'
  // Connected frontends don't go back to Initialised: it has closed and published in between.
  const isStale =
    rings === 'stale' || (attached && peer === Initialised && peerBefore === Connected)
  if (isStale && hasPublished) return 'offer'
  if (own === Closing && hasPublished && (intent === 'close' || attached)) {
    // It has yet to follow a Closing that it didn't ask for itself.
    if (peerBefore !== Closing) return 'wait'
    // Rings that failed are connected again when it has let go of them.
    if (attached) return intent === 'close' ? 'wait' : 'reopen'
    return 'offer'
  }
  if (attached) return 'wait'
  // A state that this side didn't write: back to one that both sides know.
  if (own !== InitWait) return hasPublished || own !== Closing ? 'offer' : 'wait'
  return prepared && hasPublished ? 'connect' : 'wait'
}
