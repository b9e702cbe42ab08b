/**
 * No wake-up is lost: a message is never published without a notification while the other end goes
 * to sleep.
 *
 * The accesses of the real rings are recorded, then run on the model in store-buffers.ts. Sequences
 * with one deliberate fault each show that the model finds lost wake-ups.
 */
import { sring } from '@xenkit/wire'
import { describe, expect, test } from 'vitest'
import { BackRing, FrontRing } from '../src/index.ts'
import { intercepted } from './support/intercept.ts'
import { ringMemory, type IndexName } from './support/ring-memory.ts'
import { bothSeeNothing, plain, recorder, type Access } from './support/store-buffers.ts'

const wordNames = new Map(Object.entries(sring.at).map(([name, offset]) => [offset / 4, name]))

function record(step: () => void): Access[] {
  const { accesses, interceptor } = recorder(wordNames)
  intercepted(interceptor, step)
  return accesses
}

/**
 * The accesses of a publisher, and of an end that goes to sleep. The ring starts at index 0: the
 * producer word and the event word both change from 0 to 1.
 */
interface Race {
  readonly publish: readonly Access[]
  readonly sleep: readonly Access[]
  readonly producer: IndexName
  readonly event: IndexName
}

/**
 * Returns in how many interleavings a wake-up is lost. The publisher's last load decides whether it
 * notifies; the sleeper's last load decides whether it sleeps.
 */
const lostWakeUps = ({ publish, sleep }: Race): number => bothSeeNothing([publish, sleep])

/**
 * Records two races: a request with a backend that goes to sleep, and a response with a frontend
 * that goes to sleep.
 */
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
    [
      'a request and a backend',
      { publish: publishRequest, sleep: sleepBack, producer: 'req_prod', event: 'req_event' },
    ],
    [
      'a response and a frontend',
      { publish: publishResponse, sleep: sleepFront, producer: 'rsp_prod', event: 'rsp_event' },
    ],
  ]
}

describe.each(recordRaces())('%s that goes to sleep', (_name, race) => {
  const { publish, sleep, producer, event } = race

  test('access the indices exactly as ring.h does', () => {
    expect(publish).toEqual([
      { kind: 'store', word: producer },
      { kind: 'load', word: event },
    ])
    expect(sleep).toEqual([
      { kind: 'load', word: producer },
      { kind: 'store', word: event },
      { kind: 'load', word: producer },
    ])
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
