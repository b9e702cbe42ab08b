/**
 * `backendStep` for every combination of its inputs, against xenbus.h and the contract of
 * `BackendStep`.
 */
import { XenbusState } from '@xenkit/wire'
import { describe, expect, test } from 'vitest'
import { type BackendSnapshot, type BackendStep, backendStep } from '../src/index.ts'

const { Unknown, Initialising, InitWait, Initialised, Connected } = XenbusState
const { Closing, Closed, Reconfiguring, Reconfigured } = XenbusState
const STATES = [undefined, ...Object.values(XenbusState)]
const FLAGS = [false, true]

/** Returns every combination of the given values of each field. */
function combinations<T extends object>(values: { readonly [K in keyof T]: readonly T[K][] }): T[] {
  let all: object[] = [{}]
  for (const [name, each] of Object.entries<readonly unknown[]>(values)) {
    all = all.flatMap((one) => each.map((value) => ({ ...one, [name]: value })))
  }
  return all as T[]
}

const ALL = combinations<BackendSnapshot>({
  own: STATES,
  peer: STATES,
  peerBefore: [undefined, Connected, Closing, Reconfiguring],
  online: [undefined, false, true],
  prepared: FLAGS,
  rings: ['none', 'current', 'stale'],
  intent: ['serve', 'close', 'stop'],
  mayOffer: FLAGS,
  reconfigures: FLAGS,
})

/**
 * Returns the snapshot after the backend has taken `step`, if frontend and toolstack do nothing.
 */
function apply(snapshot: BackendSnapshot, step: BackendStep): BackendSnapshot {
  const write = (own: XenbusState): XenbusState | undefined =>
    snapshot.own === undefined ? undefined : own
  const forgiven = snapshot.intent === 'close' ? 'serve' : snapshot.intent
  switch (step) {
    case 'connect':
      return { ...snapshot, own: write(Connected), rings: 'current', peerBefore: undefined }
    case 'reopen':
      return { ...snapshot, own: write(Connected), peerBefore: undefined }
    case 'reconfigure':
      return { ...snapshot, own: write(Reconfigured), peerBefore: undefined }
    case 'resume':
      return { ...snapshot, own: write(Connected), peerBefore: undefined }
    case 'offer':
      return {
        ...snapshot,
        own: write(InitWait),
        rings: 'none',
        intent: forgiven,
        peerBefore: undefined,
      }
    case 'close':
      return { ...snapshot, own: write(Closing), peerBefore: undefined }
    case 'settle':
    case 'disconnect':
      return { ...snapshot, own: write(Closed), rings: 'none', intent: forgiven }
    default:
      return snapshot
  }
}

/** Takes the backend's steps until the device waits or is removed, at most ten. */
function run(from: BackendSnapshot): {
  readonly steps: readonly BackendStep[]
  readonly end: BackendSnapshot
} {
  const steps: BackendStep[] = []
  let snapshot = from
  while (steps.length < 10) {
    const step = backendStep(snapshot)
    steps.push(step)
    if (step === 'wait' || step === 'remove') break
    snapshot = apply(snapshot, step)
  }
  return { steps, end: snapshot }
}

/** Whether both sides have come to rest with the device in use. */
const isServed = (s: BackendSnapshot): boolean =>
  s.rings === 'current' && s.own === (isReconfiguring(s) ? Reconfigured : Connected)

const isGone = ({ peer }: BackendSnapshot): boolean => peer === undefined || peer === Unknown
const beginsAnew = ({ peer }: BackendSnapshot): boolean =>
  peer === Initialising || peer === InitWait
const isReconfiguring = ({ peer, reconfigures }: BackendSnapshot): boolean =>
  reconfigures && peer === Reconfiguring
const hasPublished = (s: BackendSnapshot): boolean =>
  s.peer === Initialised || s.peer === Connected || isReconfiguring(s)
const attached = ({ rings }: BackendSnapshot): boolean => rings !== 'none'
/** Whether the device is to stay. A missing `online` node means that it goes with its frontend. */
const isOnline = (s: BackendSnapshot): boolean => s.online ?? !(isGone(s) || s.peer === Closed)
const isWanted = (s: BackendSnapshot): boolean => isOnline(s) && s.intent === 'serve'

/**
 * Checks that `holds` for every snapshot that `fits`. A rule that fits no snapshot is a mistake.
 */
function rule(
  name: string,
  fits: (s: BackendSnapshot) => boolean,
  holds: (s: BackendSnapshot) => boolean,
): void {
  test(name, () => {
    const cases = ALL.filter(fits)
    expect(cases.length).toBeGreaterThan(0)
    expect(cases.filter((s) => !holds(s)).map((s) => ({ ...s, step: backendStep(s) }))).toEqual([])
  })
}

const steps = (step: BackendStep) => (s: BackendSnapshot) => backendStep(s) === step

test('the whole domain', () => {
  expect(ALL).toHaveLength(10 * 10 * 4 * 3 * 2 * 3 * 3 * 2 * 2)
})

describe('connect', () => {
  rule(
    'only what is advertised and has no connection',
    steps('connect'),
    (s) => s.own === InitWait && !attached(s),
  )
  rule(
    'only to rings that are published: Initialised, or Connected where that was missed',
    steps('connect'),
    hasPublished,
  )
  rule('only to what the hotplug script has prepared', steps('connect'), ({ prepared }) => prepared)
  rule('only while the device is wanted', steps('connect'), isWanted)
  rule(
    'whenever all of that holds',
    (s) => s.own === InitWait && !attached(s) && s.prepared && isWanted(s) && hasPublished(s),
    steps('connect'),
  )
})

describe('a frontend that has published', () => {
  const published = (s: BackendSnapshot): boolean =>
    s.own !== undefined && hasPublished(s) && s.prepared && s.mayOffer && s.online !== false
  /** Whether the backend is attached to rings that the frontend has replaced since. */
  const isStale = (s: BackendSnapshot): boolean =>
    s.rings === 'stale' ||
    (s.rings === 'current' &&
      s.peer === Initialised &&
      (s.peerBefore === Connected || s.peerBefore === Reconfiguring))
  /**
   * Whether the backend asked the frontend to close, and the frontend hasn't written Closing yet.
   */
  const isAsked = (s: BackendSnapshot): boolean =>
    s.own === Closing && s.rings === 'current' && s.peerBefore !== Closing && !isStale(s)
  /** Whether somebody else wrote the backend's own state: the backend then keeps its connection. */
  const isForeign = (s: BackendSnapshot): boolean =>
    s.rings === 'current' &&
    s.own !== Connected &&
    s.own !== Reconfigured &&
    s.own !== Closing &&
    s.own !== Closed &&
    !isStale(s)
  rule(
    'ends connected to what it published last, whatever it passed before',
    (s) => published(s) && s.intent === 'serve' && !isAsked(s) && !isForeign(s),
    (s) => isServed(run(s).end),
  )
  rule(
    'is not disturbed where it is connected',
    (s) => published(s) && s.intent === 'serve' && isServed(s) && !isStale(s),
    steps('wait'),
  )
  rule(
    'is never told Closed on that way: a frontend would close',
    (s) => published(s) && s.intent === 'serve' && s.own !== Closed,
    (s) => !run(s).steps.includes('disconnect') && !run(s).steps.includes('close'),
  )
  rule(
    'after a fault: with other rings at once, with those that failed when it has let go of them',
    (s) => published(s) && s.intent === 'close' && s.own === Closing,
    (s) => isServed(run(s).end) === (isStale(s) || (!attached(s) && s.peerBefore === Closing)),
  )
})

describe('reconfigure', () => {
  rule(
    'only a connected device whose driver can, for a frontend that asks',
    steps('reconfigure'),
    (s) => s.reconfigures && s.peer === Reconfiguring && s.own === Connected && attached(s),
  )
  rule(
    'is asked for once, and the frontend then goes on with the nodes read again',
    (s) => backendStep(s) === 'reconfigure',
    (s) => {
      const { steps: taken, end } = run(s)
      return taken.join() === 'reconfigure,wait' && steps('resume')({ ...end, peer: Connected })
    },
  )
  rule(
    'resumes only what is attached to the rings of a frontend that has published',
    steps('resume'),
    (s) => s.own === Reconfigured && s.rings === 'current' && hasPublished(s) && isWanted(s),
  )
  rule(
    'a driver that cannot keeps what it has',
    (s) => !s.reconfigures && s.peer === Reconfiguring && isServed(s) && isWanted(s),
    steps('wait'),
  )
})

describe('disconnect', () => {
  rule(
    'a peer that is gone leads there, and to no other step before',
    (s) => isGone(s) && s.own !== undefined && s.own !== Closed,
    steps('disconnect'),
  )
  rule(
    'so does one that closed, without a connection',
    (s) => s.peer === Closed && !attached(s) && s.own !== undefined && s.own !== Closed,
    steps('disconnect'),
  )
  rule(
    'one that closed with a connection is answered first',
    (s) => s.peer === Closed && attached(s) && s.own !== undefined && s.own !== Closed,
    steps('settle'),
  )
  rule('nobody else is', steps('settle'), (s) => s.peer === Closed && attached(s))
  rule(
    'a peer that is gone or closed leaves nothing connected',
    (s) => isGone(s) || s.peer === Closed,
    (s) => !attached(run(s).end),
  )
  rule(
    'a peer that begins anew leaves nothing connected',
    (s) => beginsAnew(s) && (s.intent !== 'close' || s.own === Closing),
    (s) => !attached(run(s).end),
  )
  rule(
    'a directory that vanished leaves nothing connected',
    ({ own }) => own === undefined,
    (s) => !attached(run(s).end),
  )
  rule(
    'never while a live peer may still use the rings',
    (s) =>
      s.rings === 'current' &&
      s.own !== undefined &&
      s.own !== Closed &&
      [Connected, Closing].some((state) => state === s.peer),
    (s) => backendStep(s) !== 'disconnect',
  )
})

describe('offer', () => {
  rule(
    'only to a frontend that begins anew or has published, or over a state that somebody else wrote',
    steps('offer'),
    (s) =>
      beginsAnew(s) ||
      hasPublished(s) ||
      ![InitWait, Closing, Closed].some((state) => state === s.own),
  )
  rule(
    'never over rings that it uses',
    (s) => steps('offer')(s) && s.own !== Closed,
    (s) => !(s.rings === 'current' && s.peer === Connected),
  )
  rule(
    'never what is to go',
    steps('offer'),
    ({ online, intent }) => online !== false && intent !== 'stop',
  )
  rule(
    'whenever it is closed and all of that holds',
    (s) =>
      s.own === Closed &&
      !attached(s) &&
      s.online !== false &&
      s.intent !== 'stop' &&
      (beginsAnew(s) || hasPublished(s)),
    (s) => backendStep(s) === (s.mayOffer ? 'offer' : 'wait'),
  )
  rule(
    'not before its time: what it would detach from is detached from',
    ({ mayOffer }) => !mayOffer,
    (s) =>
      backendStep(s) !== 'offer' &&
      (backendStep({ ...s, mayOffer: true }) !== 'offer' || !attached(run(s).end)),
  )
})

describe('close', () => {
  rule(
    'is asked for once',
    steps('close'),
    ({ own }) => own !== Closing && own !== Closed && own !== undefined,
  )
  rule(
    'answers a frontend that closes',
    (s) => s.peer === Closing && s.own !== undefined && s.own !== Closing && s.own !== Closed,
    steps('close'),
  )
  rule(
    'what is not wanted any more never stays open',
    (s) => (!isOnline(s) || s.intent !== 'serve') && s.own !== undefined,
    (s) => {
      const { end } = run(s)
      // The fault is forgotten once the device is closed, so the frontend may connect again.
      return (
        end.own === Closing || end.own === Closed || (s.intent === 'close' && s.online !== false)
      )
    },
  )
  rule(
    'a missing "online" closes nothing by itself',
    (s) => s.online === undefined && !isGone(s) && s.peer !== Closed,
    (s) => backendStep(s) === backendStep({ ...s, online: true }),
  )
})

describe('remove', () => {
  rule('only with nothing connected', steps('remove'), (s) => !attached(s))
  rule(
    'only what vanished, or is closed and to go',
    steps('remove'),
    (s) => s.own === undefined || (s.own === Closed && (!isOnline(s) || s.intent === 'stop')),
  )
  rule(
    'a directory that vanished: after one disconnect at most',
    ({ own }) => own === undefined,
    (s) => {
      const { steps: taken } = run(s)
      return (
        taken.at(-1) === 'remove' &&
        taken.slice(0, -1).every((step) => step === 'disconnect') &&
        taken.length <= 2
      )
    },
  )
  rule(
    'Closed and offline: after one disconnect at most',
    (s) => s.own === Closed && !isOnline(s),
    (s) => run(s).steps.at(-1) === 'remove' && run(s).steps.length <= 2,
  )
  rule(
    'a server that stops ends, unless a live peer has yet to let go',
    ({ intent }) => intent === 'stop',
    endsOrWaits,
  )
  rule(
    'a device that is taken offline ends, unless a live peer has yet to let go',
    ({ online }) => online === false,
    endsOrWaits,
  )

  function endsOrWaits(s: BackendSnapshot): boolean {
    const { steps: taken, end } = run(s)
    return (
      taken.at(-1) === 'remove' ||
      (end.own === Closing && !isGone(end) && end.peer !== Closed && !beginsAnew(end))
    )
  }
})

describe('progress', () => {
  rule(
    'every step but wait and remove changes something',
    (s) => !['wait', 'remove'].includes(backendStep(s)),
    (s) => JSON.stringify(apply(s, backendStep(s))) !== JSON.stringify(s),
  )
  rule(
    'no livelock: at most five steps until it waits or is removed',
    () => true,
    (s) => run(s).steps.length <= 6,
  )
  rule(
    'connected once at most without the frontend doing anything',
    () => true,
    (s) => run(s).steps.filter((step) => step === 'connect').length <= 1,
  )
  rule(
    'in states that somebody else wrote nothing is left half open',
    (s) => !isGone(s) && s.own !== undefined && !attached(s),
    (s) => {
      const { own, rings } = run(s).end
      return rings === 'none'
        ? own === InitWait || own === Closing || own === Closed
        : own === Connected || own === Reconfigured
    },
  )
})
