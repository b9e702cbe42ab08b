/**
 * Checks for any interleaving of two ends' memory accesses that neither end of a xenstore ring
 * sleeps while it has work.
 *
 * The accesses of our ends are recorded and run on the model of store-buffers.ts against two kinds
 * of peers. One kind sleeps until an event comes, so our end must notify it of every update. The
 * other kind notifies as rarely as Linux, so our end may sleep only where that peer must notify.
 * Sequences with one fault each show that the model finds lost wake-ups.
 */
import { xenstoreDomainInterface } from '@xenkit/wire'
import { describe, expect, test } from 'vitest'
import { serveXenstoreRing, connectXenstoreRing } from '@xenkit/xenstore-ring'
import { intercept } from '../../ring/test/support/intercept.ts'
import {
  bothSeeNothing,
  plain,
  recorder,
  type Access,
} from '../../ring/test/support/store-buffers.ts'
import {
  FakeReceiver,
  FakeStore,
  Port,
  RING_FEATURES,
  settle,
  setWord,
  turnOfLoop,
  xenstorePage,
} from './support/xenstore-page.ts'

const wordNames = new Map(
  Object.entries(xenstoreDomainInterface.at).map(([name, offset]) => [offset / 4, name]),
)

const load = (word: string): Access => ({ kind: 'load', word })
const store = (word: string): Access => ({ kind: 'store', word })
const EVENT: Access = { kind: 'notify', word: 'event' }

/** Records an end's accesses to one ring's indices, and its events, from `step` until it sleeps. */
async function record(ring: 'req' | 'rsp', port: Port, step: () => void): Promise<Access[]> {
  const { accesses, interceptor } = recorder(wordNames)
  port.onNotify = () => accesses.push(EVENT)
  const end = intercept(interceptor)
  step()
  for (let turn = 0; turn < 5; turn++) await turnOfLoop()
  end()
  port.onNotify = () => {}
  return accesses.filter(({ word }) => word.startsWith(ring) || word === EVENT.word)
}

/** Records what each end does, alone on its own page, from the arrival of bytes until it sleeps. */
async function recordEnds() {
  const [domainPage, storePage] = [xenstorePage(), xenstorePage()]
  const [[domainPort], [storePort]] = [Port.pair(), Port.pair()]
  const stream = connectXenstoreRing(
    { page: domainPage, bind: domainPort.bind },
    new FakeReceiver(),
  )
  const fake = new FakeStore()
  serveXenstoreRing({
    page: storePage,
    bind: storePort.bind,
    features: RING_FEATURES,
    connect: fake.connect,
  })
  setWord(storePage, 'req_prod', 1)
  storePort.pending = true
  await settle(domainPort, storePort)
  const arrive = (page: Uint8Array, port: Port, word: 'req_prod' | 'rsp_prod') => () => {
    setWord(page, word, 100)
    port.pending = true
    port.deliver()
  }
  return {
    domain: {
      takes: await record('rsp', domainPort, arrive(domainPage, domainPort, 'rsp_prod')),
      sends: await record('req', domainPort, () => stream.write(new Uint8Array(10))),
      fills: await record('req', domainPort, () => stream.write(new Uint8Array(2000))),
    },
    xenstored: {
      takes: await record('req', storePort, arrive(storePage, storePort, 'req_prod')),
      sends: await record('rsp', storePort, () => fake.last.send(new Uint8Array(10))),
      fills: await record('rsp', storePort, () => fake.last.send(new Uint8Array(2000))),
    },
  }
}
const recorded = await recordEnds()

const isIndex = ({ kind }: Access): boolean => kind !== 'notify'
const without = (accesses: readonly Access[], index: number): Access[] =>
  accesses.toSpliced(index, 1)

describe.each([
  ['domain', 'req', 'rsp'],
  ['xenstored', 'rsp', 'req'],
] as const)('our %s', (side, out, into) => {
  const { takes, sends, fills } = recorded[side]

  test('checks, moves, notifies, and checks again, with no other access', () => {
    expect(sends).toEqual([load(`${out}_cons`), store(`${out}_prod`), EVENT])
    expect(takes).toEqual([
      load(`${into}_prod`),
      store(`${into}_cons`),
      EVENT,
      load(`${into}_prod`),
    ])
    expect(fills).toEqual([load(`${out}_cons`), store(`${out}_prod`), EVENT, load(`${out}_cons`)])
  })

  describe.each([
    ['sends', `${out}_prod`, sends],
    ['takes', `${into}_cons`, takes],
  ])('%s', (_what, word, accesses) => {
    /** A peer that reads the index, finds nothing new, sleeps until an event, and reads again. */
    const sleeper: readonly Access[] = [load(word), { kind: 'await', word: 'event' }, load(word)]
    const tells = accesses.slice(0, 3)

    test('and wakes the sleeping peer', () => expect(bothSeeNothing([tells, sleeper])).toBe(0))

    test.each([
      ['stores plainly', plain(tells)],
      ['tells first', [tells[0] ?? EVENT, EVENT, store(word)]],
      ['does not tell', tells.filter(isIndex)],
    ])('which it would not, if ours %s', (_fault, faulty) =>
      expect(bothSeeNothing([faulty, sleeper])).toBeGreaterThan(0),
    )
  })

  describe.each([
    // The sparing peer notifies of bytes only if the consumer had taken all earlier ones, and of
    // room only if the ring was full.
    ['bytes', takes.filter(isIndex), [store(`${into}_prod`), load(`${into}_cons`)]],
    ['room', fills.filter(isIndex), [store(`${out}_cons`), load(`${out}_prod`)]],
  ])('learns of %s from a peer that notifies only an end that may sleep', (_what, ours, peer) => {
    test('in every interleaving', () => expect(bothSeeNothing([peer, ours])).toBe(0))

    test.each([
      ['ours stores plainly', peer, plain(ours)],
      ['ours does not look again', peer, without(ours, 2)],
      [
        'ours looks again before it stores',
        peer,
        [ours[0], ours[2], ours[1]].filter((access) => access !== undefined),
      ],
      ['the other stores plainly', plain(peer), ours],
    ])('but not if %s', (_fault, faultyPeer, faulty) =>
      expect(bothSeeNothing([faultyPeer, faulty])).toBeGreaterThan(0),
    )
  })
})
