/**
 * Explores every state that a backend, a frontend like Linux's blkfront and a toolstack can reach
 * together. The backend acts later than it decides, so the others may act in between. From each
 * state, once nothing disturbs them, all three must come to rest in a correct state.
 */
import { XenbusState, xenbusStateName } from '@xenkit/wire'
import { expect, test } from 'vitest'
import { type BackendSnapshot, type BackendStep, backendStep } from '../src/index.ts'

const { Initialising, InitWait, Initialised, Connected, Closing, Closed } = XenbusState
const { Reconfiguring, Reconfigured } = XenbusState

interface World extends BackendSnapshot {
  /** The step that the backend chose from an earlier snapshot and hasn't taken yet. */
  readonly decided: BackendStep | undefined
  /** Whether the server has forgotten the device. */
  readonly ended: boolean
  readonly toolstack: 'idle' | 'waiting' | 'done'
  /** Whether the guest's domain has been destroyed. */
  readonly dead: boolean
}

const START: World = {
  own: InitWait,
  peer: Initialising,
  peerBefore: undefined,
  online: true,
  prepared: false,
  rings: 'none',
  intent: 'serve',
  mayOffer: true,
  reconfigures: true,
  decided: undefined,
  ended: false,
  toolstack: 'idle',
  dead: false,
}

type Move = readonly [name: string, world: World]

/** Writes the backend's state, unless its directory was removed. */
const writeOwn = (w: World, own: XenbusState): World => (w.own === undefined ? w : { ...w, own })

function act(w: World, step: BackendStep): World {
  const done = { ...w, decided: undefined }
  const intent = w.intent === 'close' ? 'serve' : w.intent
  const peerBefore = undefined
  if (step === 'connect') return { ...writeOwn(done, Connected), rings: 'current', peerBefore }
  if (step === 'reopen' || step === 'resume') return { ...writeOwn(done, Connected), peerBefore }
  if (step === 'reconfigure') return { ...writeOwn(done, Reconfigured), peerBefore }
  if (step === 'offer') return { ...writeOwn(done, InitWait), rings: 'none', intent, peerBefore }
  if (step === 'close') return { ...writeOwn(done, Closing), peerBefore }
  if (step === 'settle' || step === 'disconnect') {
    return { ...writeOwn(done, Closed), rings: 'none', intent }
  }
  return { ...done, ended: true }
}

function backendMoves(w: World): Move[] {
  if (w.ended) return []
  if (w.decided !== undefined) return [[`does ${w.decided}`, act(w, w.decided)]]
  const step = backendStep(w)
  return step === 'wait' ? [] : [[`decides ${step}`, { ...w, decided: step }]]
}

/** Sets the frontend's state. Initialised means new rings, so an attached backend's are stale. */
const becomes = (w: World, peer: XenbusState): World => ({
  ...w,
  peer,
  peerBefore: peer === w.peer ? w.peerBefore : w.peer,
  rings: peer === Initialised && w.rings === 'current' ? 'stale' : w.rings,
})

/**
 * The frontend's moves, as drivers/block/xen-blkfront.c makes them in blkback_changed and
 * blkfront_closing. This guest closes its disk as soon as the backend asks it to.
 */
function frontendMoves(w: World): Move[] {
  const { own, peer } = w
  if (w.dead || peer === undefined) return []
  const to = (state: XenbusState): Move[] => [
    [`front ${xenbusStateName(state)}`, becomes(w, state)],
  ]
  if (peer === Closing) return to(Closed)
  if (own === Closing || own === Closed) {
    return peer === Closed || (own === Closed && peer === Initialising)
      ? []
      : to(peer === Initialising ? Closed : Closing)
  }
  if (own === InitWait && peer === Initialising) return to(Initialised)
  if (own === Connected && peer === Initialised) return to(Connected)
  // As drivers/net/xen-netfront.c does in xennet_xdp_set.
  if (own === Reconfigured && peer === Reconfiguring) return to(Connected)
  return []
}

function toolstackMoves(w: World): Move[] {
  if (!w.prepared) return [['script done', { ...w, prepared: true }]]
  if (w.toolstack !== 'waiting' || (w.own !== undefined && w.own !== Closed)) return []
  return [['nodes removed', { ...w, toolstack: 'done', own: undefined, peer: undefined }]]
}

/** The guest dies while the server waits for it to close, or the server stops waiting. */
function timeouts(w: World): Move[] {
  return w.intent === 'stop' && !w.ended && w.own === Closing && w.peer !== undefined
    ? [['close timeout', { ...w, peer: undefined, dead: true }]]
    : []
}

/** Moves that the guest, the toolstack or the server may make at any time, without a cause. */
function disturbances(w: World): Move[] {
  const moves: Move[] = []
  if (!w.dead && w.peer !== undefined) {
    moves.push(['guest dies', { ...w, peer: undefined, dead: true }])
    for (const state of [Initialising, Initialised, Closing, Closed]) {
      moves.push([`guest writes ${xenbusStateName(state)}`, becomes(w, state)])
    }
    if (w.peer === Connected) moves.push(['guest reconfigures', becomes(w, Reconfiguring)])
    if (w.peer === Closing) moves.push(['guest stays open', becomes(w, Connected)])
  }
  if (w.toolstack === 'idle' && w.own !== undefined) {
    moves.push([
      'unplug',
      { ...w, toolstack: 'waiting', online: false, own: w.own === Closed ? Closed : Closing },
    ])
    moves.push(['removed by force', { ...w, toolstack: 'done', own: undefined, peer: undefined }])
  }
  if (!w.ended && w.intent === 'serve') moves.push(['fault', { ...w, intent: 'close' }])
  if (!w.ended && w.intent !== 'stop') moves.push(['server stops', { ...w, intent: 'stop' }])
  return moves
}

const own = (w: World): Move[] => [...backendMoves(w), ...frontendMoves(w), ...toolstackMoves(w)]
const settle = (w: World): Move[] => {
  const moves = own(w)
  return moves.length > 0 ? moves : timeouts(w)
}

const key = (w: World): string =>
  JSON.stringify(
    [
      w.own,
      w.peer,
      w.peerBefore,
      w.online,
      w.prepared,
      w.rings,
      w.intent,
      w.decided,
      w.ended,
      w.toolstack,
      w.dead,
    ].map((field) => field ?? null),
  )

function reachable(): Map<string, { readonly world: World; readonly trail: readonly string[] }> {
  const seen = new Map([[key(START), { world: START, trail: [] as readonly string[] }]])
  for (const { world, trail } of seen.values()) {
    for (const [name, next] of [...own(world), ...timeouts(world), ...disturbances(world)]) {
      if (!seen.has(key(next))) seen.set(key(next), { world: next, trail: [...trail, name] })
    }
  }
  return seen
}

/** Says what is wrong with a world in which nobody can move any more. */
function faultOf(w: World): string | undefined {
  if (w.toolstack === 'waiting') return 'the toolstack waits for ever'
  if (w.own === undefined || w.intent === 'stop') {
    return w.ended && w.rings === 'none' ? undefined : 'the device was not let go'
  }
  if (w.ended) return 'the server forgot a device that it is to serve'
  if (w.peer === Connected) {
    return w.rings === 'current' && w.own === Connected
      ? undefined
      : 'the frontend is connected alone'
  }
  if (w.peer === undefined || w.peer === Closed) {
    return w.rings === 'none' && w.own === Closed ? undefined : 'the backend is left open'
  }
  return 'the frontend is stuck'
}

const worlds = reachable()

test('hundreds of worlds', () => {
  expect(worlds.size).toBeGreaterThan(400)
})

test('from every one, in any order of moves, all come to rest where they should', () => {
  const settled = new Map<string, boolean>()
  const faults: string[] = []
  const visit = (world: World, trail: readonly string[]): void => {
    const id = key(world)
    const known = settled.get(id)
    if (known === false) faults.push(`goes round in circles: ${trail.join(', ')}`)
    if (known !== undefined) return
    settled.set(id, false)
    const moves = settle(world)
    const fault = moves.length === 0 ? faultOf(world) : undefined
    if (fault) faults.push(`${fault}: ${trail.join(', ')}: ${id}`)
    for (const [name, next] of moves) visit(next, [...trail, name])
    settled.set(id, true)
  }
  for (const { world, trail } of worlds.values()) visit(world, trail)
  expect(faults).toEqual([])
})

test('never two connections, never one to a device that is forgotten', () => {
  const wrong = [...worlds.values()].filter(
    ({ world: w }) => (w.decided === 'connect' || w.ended) && w.rings !== 'none',
  )
  expect(wrong).toEqual([])
})
