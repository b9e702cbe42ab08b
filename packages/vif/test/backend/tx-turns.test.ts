/**
 * When a guest's packets are sent: in fair turns, when there is a buffer, and after others' work.
 */
import { TURN, openGuestTurn } from '@xenkit/backend'
import { ALL_OFFLOADS, Gso, NO_OFFLOADS, type Offloads } from '@xenkit/frames'
import { NETTXF } from '@xenkit/wire'
import { expect, test } from 'vitest'
import { build, tcp4 } from '../../../frames/test/support/packets.ts'
import { until } from '../../../backend/test/support/until.ts'
import { TxRig } from '../support/tx-rig.ts'

const { more_data, extra_info } = NETTXF

interface Shared extends AsyncDisposable {
  readonly rig: TxRig
  /** Frames that were sent in each round of the event loop. */
  readonly perRound: ReadonlyMap<number, number>
}

/** A rig whose guest shares the event loop with another one, so that its turns are short. */
async function shared(offloads: Offloads = NO_OFFLOADS): Promise<Shared> {
  const perRound = new Map<number, number>()
  const rig = await TxRig.open({
    link: {
      offloads,
      send({ count }) {
        const { round } = rig.dom0.loop
        perRound.set(round, (perRound.get(round) ?? 0) + count)
      },
    },
  })
  const other = openGuestTurn(rig.dom0.loop, 77)
  return {
    rig,
    perRound,
    async [Symbol.asyncDispose]() {
      other.close()
      await rig[Symbol.asyncDispose]()
    },
  }
}

test('a guest that floods its ring sends a turn of packets in a round of the event loop', async () => {
  await using s = await shared()
  const { rig } = s
  for (let i = 0; i < 256; i++) rig.put({ size: 60, id: i })
  rig.turn()
  await until(() => rig.frames.length === 256)
  // A packet and its part are two units of work.
  expect([...s.perRound.values()]).toEqual([Math.floor(TURN / 2), Math.floor(TURN / 2)])
  expect(rig.answers()).toEqual(Array.from({ length: 256 }, (_, i) => `${i}:0`))
})

test('refused packets and extra infos are work too', async () => {
  await using s = await shared()
  const { rig } = s
  for (let i = 0; i < 64; i++) {
    rig.put({ size: 60, flags: more_data | extra_info, id: i })
    rig.putExtra({ type: 4, flags: 1 })
    rig.putExtra({ type: 4 })
    rig.put({ size: 61 })
  }
  rig.turn()
  expect(rig.responses()).toHaveLength(4 * Math.floor(TURN / 5))
  await until(() => rig.counters.stats.sendErrors === 64)
})

test('a refused packet with a GSO of nothing is work like any other', async () => {
  await using s = await shared()
  const { rig } = s
  for (let i = 0; i < 128; i++) {
    rig.put({ size: 0, flags: extra_info, id: i })
    rig.putExtra({ type: 1, u: [0, 0, 1, 0, 0, 0] })
  }
  rig.turn()
  expect(rig.responses()).toHaveLength(2 * Math.floor(TURN / 3))
  await until(() => rig.counters.stats.sendErrors === 128)
})

test('the largest packet fits in a turn, whatever it costs', async () => {
  await using s = await shared()
  const { rig } = s
  // A packet that fills the ring with extra infos.
  rig.put({ size: 60, flags: extra_info, id: 1 })
  for (let i = 0; i < 255; i++) rig.putExtra({ type: 4, flags: i < 254 ? 1 : 0 })
  rig.turn()
  expect(rig.frames).toHaveLength(1)
  rig.responses()
  // A packet of more segments than a turn has units, so that the next one waits for another turn.
  const { bytes } = build({ ...tcp4, payload: new Uint8Array(20_000) })
  const gso = { type: Gso.TCPV4, size: 36 }
  rig.putFrame(bytes, { flags: NETTXF.csum_blank, gso, id: 2 })
  rig.put({ gref: rig.gref(20), size: 60, id: 9 })
  rig.turn()
  await until(() => rig.frames.length === 3)
  expect(rig.frames[1]).toMatchObject({ gso: Gso.TCPV4, gsoSize: 36 })
  expect([...s.perRound.values()]).toEqual([1, 1, 1])
})

test('segments are no work for a link that takes them whole', async () => {
  await using s = await shared(ALL_OFFLOADS)
  const { rig } = s
  const { bytes } = build({ ...tcp4, payload: new Uint8Array(20_000) })
  rig.putFrame(bytes, { flags: NETTXF.csum_blank, gso: { type: Gso.TCPV4, size: 36 }, id: 2 })
  rig.put({ gref: rig.gref(20), size: 60, id: 9 })
  rig.turn()
  expect([...s.perRound.values()]).toEqual([2])
})

test('packets wait for a buffer in order, and a later turn sends them', async () => {
  await using rig = await TxRig.open()
  const { pool } = rig
  const held = [64, 64, 16].map((pages) => pool.take(pages * 4096, () => {}))
  expect(held.every((buffer) => buffer !== undefined)).toBe(true)
  for (let i = 0; i < 100; i++) rig.put({ size: 60, id: i })
  rig.put({ size: 13, id: 100 })
  rig.turn()
  expect([rig.frames.length, rig.responses().length]).toEqual([0, 0])
  expect(rig.work.server.inFlight).toBe(0)
  for (const buffer of held) if (buffer) pool.give(buffer)
  await until(() => rig.frames.length === 100)
  expect(rig.answers().map((answer) => Number(answer.split(':')[0]))).toEqual(
    Array.from({ length: 101 }, (_, i) => i),
  )
  expect(rig.failures).toEqual([])
})

test('a ring that stops while packets wait for a buffer sends none of them', async () => {
  await using rig = await TxRig.open()
  const held = [64, 64, 16].map((pages) => rig.pool.take(pages * 4096, () => {}))
  rig.put({ size: 60 })
  rig.turn()
  await rig.work.server.settle({ frontend: 'gone' })
  for (const buffer of held) if (buffer) rig.pool.give(buffer)
  // The pool wakes its callers in a microtask.
  await Promise.resolve()
  await Promise.resolve()
  expect(rig.frames).toEqual([])
})

test('a guest that closes gets answers to all that it has sent', async () => {
  await using rig = await TxRig.open()
  for (let i = 0; i < 200; i++) rig.put({ size: 60, id: i })
  rig.front.ring.publish()
  await rig.work.server.settle({ frontend: 'closed' })
  expect(rig.frames).toHaveLength(200)
  expect(rig.responses()).toHaveLength(200)
})
