/**
 * No wake-up is lost: a message is never published without a notification while the other end goes to
 * sleep.
 *
 * The accesses that the real rings make are recorded, then run on a model of two processors with store
 * buffers (x86; weaker ones reorder no more than this where every access is atomic), in every
 * interleaving. An `Atomics.store` waits until its processor's buffer is empty; a plain store may stay
 * in it while later loads go ahead. The model is shown to have teeth on sequences with one fault each.
 */
import { sring } from '@xenkit/wire'
import { describe, expect, test } from 'vitest'
import { BackRing, FrontRing } from '../src/index.ts'
import { intercepted, type Interceptor } from './intercept.ts'
import { ringMemory, type IndexName } from './ring-memory.ts'

interface Access {
  readonly kind: 'load' | 'store' | 'plain store'
  readonly word: IndexName
}

const wordNames = new Map(Object.entries(sring.at).map(([name, offset]) => [offset / 4, name as IndexName]))

/** The accesses to index words that `step` makes. A plain store shows as the absence of one. */
function record(step: () => void): Access[] {
  const accesses: Access[] = []
  const note = (kind: Access['kind'], index: number): void => {
    accesses.push({ kind, word: wordNames.get(index) ?? expect.unreachable() })
  }
  const interceptor: Interceptor = {
    load: (words, index, load) => {
      note('load', index)
      return load(words, index)
    },
    store: (words, index, value, store) => {
      note('store', index)
      return store(words, index, value)
    },
  }
  intercepted(interceptor, step)
  return accesses
}


/** Who publishes a message and who goes to sleep, from index 0: producer word 0 -> 1, event word 0 -> 1. */
interface Race {
  readonly publish: readonly Access[]
  readonly sleep: readonly Access[]
  readonly producer: IndexName
  readonly event: IndexName
}

/** A state of the model: two processors, the publisher's and the sleeper's, over one memory. */
interface State {
  /** How many accesses each has made. */
  readonly at: Both<number>
  readonly memory: Readonly<Record<string, number>>
  /** Plain stores that only their own processor sees yet, oldest first. */
  readonly buffers: Both<readonly IndexName[]>
  /** What each loaded last. */
  readonly seen: Both<number>
}
type Both<T> = readonly [T, T]

const set = <T>(both: Both<T>, side: 0 | 1, value: T): Both<T> => (side === 0 ? [value, both[1]] : [both[0], value])

/** Every state that one step leads to: an access of either processor, or a store that leaves its buffer. */
function* successors(programs: Both<readonly Access[]>, state: State): Generator<State> {
  for (const side of [0, 1] as const) {
    const buffer = state.buffers[side]
    const [oldest, ...younger] = buffer
    if (oldest !== undefined) yield { ...state, memory: { ...state.memory, [oldest]: 1 }, buffers: set(state.buffers, side, younger) }
    const access = programs[side][state.at[side]]
    if (access === undefined || (access.kind === 'store' && oldest !== undefined)) continue
    const next = { ...state, at: set(state.at, side, state.at[side] + 1) }
    if (access.kind === 'store') yield { ...next, memory: { ...state.memory, [access.word]: 1 } }
    else if (access.kind === 'plain store') yield { ...next, buffers: set(state.buffers, side, [...buffer, access.word]) }
    else yield { ...next, seen: set(state.seen, side, buffer.includes(access.word) ? 1 : (state.memory[access.word] ?? 0)) }
  }
}

/** Runs the race in every interleaving. @returns in how many the message is lost */
function lostWakeUps({ publish, sleep, producer, event }: Race): number {
  const lostFrom = (state: State): number => {
    const next = [...successors([publish, sleep], state)]
    if (next.length > 0) return next.reduce((lost, one) => lost + lostFrom(one), 0)
    // Each has decided by its last load: the publisher whether the event was armed, the sleeper whether there is work.
    return state.seen[0] === 0 && state.seen[1] === 0 ? 1 : 0
  }
  return lostFrom({ at: [0, 0], memory: { [producer]: 0, [event]: 0 }, buffers: [[], []], seen: [0, 0] })
}

/** The race of a request with a backend that goes to sleep, and of a response with a frontend, as the rings run them. */
function recordRaces(): [string, Race][] {
  const memory = ringMemory()
  const front = FrontRing.attach({ ...memory, index: 0 })
  const back = BackRing.attach(memory)
  const sleepBack = record(() => back.finalCheck())
  front.reserveRequest()
  const publishRequest = record(() => front.publish())
  back.drain(1)
  const sleepFront = record(() => front.finalCheck())
  back.reserveResponse()
  const publishResponse = record(() => back.publish())
  return [
    ['a request and a backend', { publish: publishRequest, sleep: sleepBack, producer: 'req_prod', event: 'req_event' }],
    ['a response and a frontend', { publish: publishResponse, sleep: sleepFront, producer: 'rsp_prod', event: 'rsp_event' }],
  ]
}

const plain = (accesses: readonly Access[]): Access[] => accesses.map((access) => (access.kind === 'store' ? { ...access, kind: 'plain store' } : access))

describe.each(recordRaces())('%s that goes to sleep', (_name, race) => {
  const { publish, sleep, producer, event } = race

  test('access the indices as ring.h does, and no oftener', () => {
    expect(publish).toEqual([{ kind: 'store', word: producer }, { kind: 'load', word: event }])
    expect(sleep).toEqual([{ kind: 'load', word: producer }, { kind: 'store', word: event }, { kind: 'load', word: producer }])
  })

  test('never miss each other', () => expect(lostWakeUps(race)).toBe(0))

  test.each<[string, Race]>([
    ['publishes by a plain store', { ...race, publish: plain(publish) }],
    ['arms by a plain store', { ...race, sleep: plain(sleep) }],
    ['does not look again', { ...race, sleep: sleep.slice(0, 2) }],
    ['does not arm', { ...race, sleep: sleep.filter(({ kind }) => kind === 'load') }],
    ['looks at the event first', { ...race, publish: publish.toReversed() }],
  ])('would, if one of them %s', (_fault, faulty) => expect(lostWakeUps(faulty)).toBeGreaterThan(0))
})
