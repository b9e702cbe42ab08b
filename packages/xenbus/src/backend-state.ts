/**
 * The backend's half of the xenbus state machine (xenbus.h), as a pure function: what is in
 * xenstore now decides what to do next. Watches may fire late, twice or for nothing, and two
 * changes may arrive as one. So a step depends on states, never on the event that came.
 *
 *     frontend          backend
 *                       1 Initialising   the toolstack made both directories
 *                       2 InitWait       probe: features are advertised
 *     3 Initialised                      ring and port are published (vif goes to 4 at once)
 *                       4 Connected      connect: ring mapped, port bound, geometry published
 *     4 Connected
 *     7 Reconfiguring   8 Reconfigured   the frontend changed nodes, and the backend read them
 *     4 Connected       4 Connected
 *     5 Closing         5 Closing
 *     6 Closed          6 Closed         disconnect: ring unmapped, port unbound
 *     1 Initialising    2 InitWait       a guest that rebooted, while `online` is 1
 *
 * Between two steps a frontend may pass several states and publish other rings. Whatever it passed,
 * the backend connects to the rings that were published last, as Linux's blkback does.
 */
import { XenbusState } from '@xenkit/wire'

/** State of one device, in xenstore and in this process, read at one time. */
export interface BackendSnapshot {
  /**
   * Own `state`; undefined if the toolstack removed the device, or plugged another in its place.
   */
  readonly own: XenbusState | undefined
  /** The frontend's `state`; undefined if its directory or its domain is gone. */
  readonly peer: XenbusState | undefined
  /** The frontend's `state` before `peer`; undefined once the backend has reacted to `peer`. */
  readonly peerBefore: XenbusState | undefined
  /**
   * Own `online`, which the toolstack clears to remove the device for good. Undefined without such
   * a node: the device then goes when its frontend has closed, as with Linux's backends.
   */
  readonly online: boolean | undefined
  /** Whether the hotplug script, if there is one, has prepared the disk or network. */
  readonly prepared: boolean
  /**
   * Which rings are mapped: none, those that the frontend publishes now, or `stale` ones of an
   * earlier life.
   */
  readonly rings: 'none' | 'current' | 'stale'
  /**
   * What this side intends: to serve the device; to `close` it after a fault, until the frontend
   * starts again; or to `stop` for good.
   */
  readonly intent: 'serve' | 'close' | 'stop'
  /** False while the device has to wait because its last connections were short; see `Pace`. */
  readonly mayOffer: boolean
  /**
   * Whether the driver follows a frontend that changes its nodes while it is connected. A network
   * card's does; for another device Reconfiguring is a state without meaning.
   */
  readonly reconfigures: boolean
}

/**
 * The next step of a backend:
 * - `connect`: attach to the published rings, then Connected
 * - `offer`: detach from the rings of an earlier life, if any, then write InitWait for a frontend
 *   that starts again
 * - `reopen`: write Connected again, for a frontend that was closing and now goes on with the same
 *   rings
 * - `reconfigure`: let the driver read the frontend's changed nodes, then write Reconfigured
 * - `resume`: let the driver read them again, then write Connected
 * - `close`: write Closing, which asks the frontend to close
 * - `settle`: answer the requests that the frontend sent before it closed, then as `disconnect`
 * - `disconnect`: detach without starting requests that the rings still hold, then write Closed
 * - `remove`: the device is gone; forget it
 * - `wait`: nothing to do until something changes
 */
export type BackendStep =
  | 'connect'
  | 'offer'
  | 'reopen'
  | 'reconfigure'
  | 'resume'
  | 'close'
  | 'settle'
  | 'disconnect'
  | 'remove'
  | 'wait'

const { Unknown, Initialising, InitWait, Initialised, Connected } = XenbusState
const { Closing, Closed, Reconfiguring, Reconfigured } = XenbusState

/** Chooses the next step of a backend. Pure: the same snapshot gives the same step. */
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
  reconfigures,
}: BackendSnapshot): BackendStep {
  const attached = rings !== 'none'
  const gone = peer === undefined || peer === Unknown
  const beginsAnew = peer === Initialising || peer === InitWait
  // The frontend was Connected before it began to reconfigure.
  const isReconfiguring = reconfigures && peer === Reconfiguring
  // Connected counts like Initialised, because the backend may have missed the Initialised before.
  const hasPublished = peer === Initialised || peer === Connected || isReconfiguring
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
  // The toolstack writes Closing together with `online`. A step of the backend may have overwritten
  // that Closing since.
  if (goes || peer === Closing) {
    return own !== Closing ? 'close' : beginsAnew ? 'disconnect' : 'wait'
  }
  if (intent === 'close' && own !== Closing) return 'close'

  // From here on the device is to be served, and its frontend isn't closing or closed.
  if (beginsAnew) return own === InitWait && !attached ? 'wait' : 'offer'
  // A connected frontend never goes straight to Initialised, so it has closed and published other
  // rings in between.
  const wasConnected = peerBefore === Connected || peerBefore === Reconfiguring
  const isStale = rings === 'stale' || (attached && peer === Initialised && wasConnected)
  if (isStale && hasPublished) return 'offer'
  if (own === Closing && hasPublished && (intent === 'close' || attached)) {
    // The backend has asked the frontend to close, and waits until the frontend writes Closing.
    if (peerBefore !== Closing) return 'wait'
    // Rings that failed are connected again only after the frontend has closed them.
    if (attached) return intent === 'close' ? 'wait' : 'reopen'
    return 'offer'
  }
  if (attached) {
    if (own === Connected && isReconfiguring) return 'reconfigure'
    // Linux's netfront writes its nodes after Reconfiguring, so the driver may have read old ones.
    return own === Reconfigured && hasPublished && !isReconfiguring ? 'resume' : 'wait'
  }
  // Somebody else wrote the backend's state, so go back to a state that both sides know.
  if (own !== InitWait) return hasPublished || own !== Closing ? 'offer' : 'wait'
  return prepared && hasPublished ? 'connect' : 'wait'
}
