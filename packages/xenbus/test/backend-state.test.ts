/** `backendStep` over its whole domain, against what xenbus.h and the contract of `BackendStep` say. */
import { XenbusState } from '@xenkit/wire'
import { describe, expect, test } from 'vitest'
import { type BackendSnapshot, type BackendStep, backendStep } from '../src/index.ts'

const { Unknown, Initialising, InitWait, Initialised, Connected, Closing, Closed } = XenbusState
const STATES = [undefined, ...Object.values(XenbusState)]
const FLAGS = [false, true]
const INTENTS = ['serve', 'close', 'stop'] as const

const ALL: readonly BackendSnapshot[] = STATES.flatMap((own) =>
  STATES.flatMap((peer) => FLAGS.flatMap((online) => FLAGS.flatMap((prepared) => FLAGS.flatMap((connected) => INTENTS.map((intent) => ({ own, peer, online, prepared, connected, intent })))))),
)

/** What a step leaves in the store and in this process, if nobody else does anything. */
function apply(snapshot: BackendSnapshot, step: BackendStep): BackendSnapshot {
  const write = (own: XenbusState): XenbusState | undefined => (snapshot.own === undefined ? undefined : own)
  switch (step) {
    case 'connect':
      return { ...snapshot, own: write(Connected), connected: true }
    case 'offer':
      return { ...snapshot, own: write(InitWait) }
    case 'close':
      return { ...snapshot, own: write(Closing) }
    case 'settle':
    case 'disconnect':
      return { ...snapshot, own: write(Closed), connected: false, intent: snapshot.intent === 'close' ? 'serve' : snapshot.intent }
    default:
      return snapshot
  }
}

/** Steps until the device waits or is removed. */
function run(from: BackendSnapshot): { readonly steps: readonly BackendStep[]; readonly end: BackendSnapshot } {
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

const isGone = ({ peer }: BackendSnapshot): boolean => peer === undefined || peer === Unknown
const beginsAnew = ({ peer }: BackendSnapshot): boolean => peer === Initialising || peer === InitWait

/** Checks every snapshot that fits; a rule that fits none is a mistake in the test. */
function rule(name: string, fits: (s: BackendSnapshot) => boolean, holds: (s: BackendSnapshot) => boolean): void {
  test(name, () => {
    const cases = ALL.filter(fits)
    expect(cases.length).toBeGreaterThan(0)
    expect(cases.filter((s) => !holds(s)).map((s) => ({ ...s, step: backendStep(s) }))).toEqual([])
  })
}

const steps = (step: BackendStep) => (s: BackendSnapshot) => backendStep(s) === step

test('the whole domain', () => {
  expect(ALL).toHaveLength(10 * 10 * 2 * 2 * 2 * 3)
})

describe('connect', () => {
  rule('only what is advertised and has no connection', steps('connect'), ({ own, connected }) => own === InitWait && !connected)
  rule('only to rings that are published: Initialised, or Connected where that was missed', steps('connect'), ({ peer }) => peer === Initialised || peer === Connected)
  rule('only to what the hotplug script has prepared', steps('connect'), ({ prepared }) => prepared)
  rule('only while the device is wanted', steps('connect'), ({ online, intent }) => online && intent === 'serve')
  rule('whenever all of that holds', (s) => s.own === InitWait && !s.connected && s.prepared && s.online && s.intent === 'serve' && (s.peer === Initialised || s.peer === Connected), steps('connect'))
})

describe('disconnect', () => {
  rule('a peer that is gone leads there, and to no other step before', (s) => isGone(s) && s.own !== undefined && s.own !== Closed, steps('disconnect'))
  rule('so does one that closed, without a connection', (s) => s.peer === Closed && !s.connected && s.own !== undefined && s.own !== Closed, steps('disconnect'))
  rule('one that closed with a connection is answered first', (s) => s.peer === Closed && s.connected && s.own !== undefined && s.own !== Closed, steps('settle'))
  rule('nobody else is', steps('settle'), (s) => s.peer === Closed && s.connected)
  rule('a peer that is gone or closed leaves nothing connected', (s) => isGone(s) || s.peer === Closed, (s) => !run(s).end.connected)
  rule('a peer that begins anew leaves nothing connected', (s) => beginsAnew(s), (s) => !run(s).end.connected)
  rule('a directory that vanished leaves nothing connected', ({ own }) => own === undefined, (s) => !run(s).end.connected)
  rule('never while a live peer may still use the rings', (s) => s.connected && s.own !== undefined && s.own !== Closed && [Initialised, Connected, Closing].some((state) => state === s.peer), (s) => backendStep(s) !== 'disconnect')
})

describe('offer', () => {
  rule('only after Closed, detached, to a frontend that begins anew', steps('offer'), (s) => s.own === Closed && !s.connected && beginsAnew(s))
  rule('never what is to go', steps('offer'), ({ online, intent }) => online && intent !== 'stop')
  rule('whenever all of that holds', (s) => s.own === Closed && !s.connected && s.online && s.intent !== 'stop' && beginsAnew(s), steps('offer'))
})

describe('close', () => {
  rule('is asked for once', steps('close'), ({ own }) => own !== Closing && own !== Closed && own !== undefined)
  rule('answers a frontend that closes', (s) => s.peer === Closing && s.own !== undefined && s.own !== Closing && s.own !== Closed, steps('close'))
  rule('what is not wanted any more never stays open', (s) => (!s.online || s.intent !== 'serve') && s.own !== undefined, (s) => {
    const { end } = run(s)
    // A fault is forgotten once the device is closed: the frontend may begin anew.
    return end.own === Closing || end.own === Closed || (s.intent === 'close' && s.online && end.own === InitWait && !end.connected)
  })
})

describe('remove', () => {
  rule('only with nothing connected', steps('remove'), ({ connected }) => !connected)
  rule('only what vanished, or is closed and to go', steps('remove'), (s) => s.own === undefined || (s.own === Closed && (!s.online || s.intent === 'stop')))
  rule('a directory that vanished: after one disconnect at most', ({ own }) => own === undefined, (s) => {
    const { steps: taken } = run(s)
    return taken.at(-1) === 'remove' && taken.slice(0, -1).every((step) => step === 'disconnect') && taken.length <= 2
  })
  rule('Closed and offline: after one disconnect at most', ({ own, online }) => own === Closed && !online, (s) => run(s).steps.at(-1) === 'remove' && run(s).steps.length <= 2)
  rule('a server that stops ends, unless a live peer has yet to let go', ({ intent }) => intent === 'stop', (s) => {
    const { steps: taken, end } = run(s)
    return taken.at(-1) === 'remove' || (end.own === Closing && !isGone(end) && end.peer !== Closed && !beginsAnew(end))
  })
  rule('a device that is taken offline ends, unless a live peer has yet to let go', ({ online }) => !online, (s) => {
    const { steps: taken, end } = run(s)
    return taken.at(-1) === 'remove' || (end.own === Closing && !isGone(end) && end.peer !== Closed && !beginsAnew(end))
  })
})

describe('progress', () => {
  rule('every step but wait and remove changes something', (s) => !['wait', 'remove'].includes(backendStep(s)), (s) => JSON.stringify(apply(s, backendStep(s))) !== JSON.stringify(s))
  rule('no livelock: at most five steps until it waits or is removed', () => true, (s) => run(s).steps.length <= 6)
  rule('connected once at most without the frontend doing anything', () => true, (s) => run(s).steps.filter((step) => step === 'connect').length <= 1)
  rule('in states that somebody else wrote nothing is left half open', (s) => !isGone(s) && s.own !== undefined && !s.connected, (s) => {
    const { own, connected } = run(s).end
    return connected ? own === Connected : own === InitWait || own === Closing || own === Closed
  })
})
