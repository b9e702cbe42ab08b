/** Long discards: how long others wait, how they are split, and when the rest is skipped. */
import { BLKIF_OP } from '@xenkit/wire'
import { describe, expect, test } from 'vitest'
import { discardInTurns } from '../../src/backend/discard-in-turns.ts'
import { TURN } from '@xenkit/backend'
import type { BlockStore } from '../../src/index.ts'
import { memoryStore } from '@xenkit/stores'
import { Crowd } from '../../../backend/test/support/crowd.ts'
import { Flooder } from '../support/flood.ts'
import { RawFrontend } from '../support/raw-frontend.ts'
import { rig } from '../support/rig.ts'

const { DISCARD } = BLKIF_OP
const MIB = 2048

/** A disk in memory that counts the sectors it was made to discard. */
function countedMemory(sectors: number) {
  const memory = memoryStore(sectors)
  const counted = { discarded: 0 }
  const store: BlockStore = {
    ...memory,
    discard(sector, count, o) {
      counted.discarded += count
      return memory.discard(sector, count, o)
    },
  }
  return { memory, store, counted }
}

test.each([1, 4])(
  'a guest that discards its disk over and over, on %i rings: others wait for two turns at most',
  async (queues) => {
    const crowd = new Crowd()
    const { store, counted } = countedMemory(16 * MIB)
    await using r = await rig({
      store: ({ params }) => (params === 'quiet' ? memoryStore(64) : store),
      through: crowd.through,
    })
    await r.plug({ params: 'quiet' })
    await using quiet = await RawFrontend.open(r.guest)
    const guest = r.machine.createDomain()
    await r.plug({ guest })
    const request = { operation: DISCARD, nr_sectors: BigInt(16 * MIB) }
    await using flooder = await Flooder.open(guest, { disks: ['xvda'], queues, request, work: 1 })
    await quiet.device.connected()
    crowd.onAnswer(guest.domid, () => flooder.fill())
    flooder.fill()
    const waits: number[] = []
    for (let i = 0; i < 20; i++) {
      const before = counted.discarded
      const answered = new Promise<number>((resolve) =>
        crowd.onAnswer(r.guest.domid, () => resolve(counted.discarded - before)),
      )
      quiet.put()
      quiet.send()
      waits.push(await answered)
      expect(quiet.ring.drain(1)).toBe(1)
      quiet.ring.finalCheck()
    }
    crowd.onAnswer(guest.domid, () => flooder.rest())
    expect(Math.max(...waits)).toBeLessThanOrEqual(2 * MIB)
    // The discards still proceed, as fast as the guest's turns come.
    expect(counted.discarded).toBeGreaterThan(10 * MIB)
  },
)

test('the rest of a discard is skipped once its guest is gone', async () => {
  const { store, counted } = countedMemory(64 * MIB)
  await using r = await rig({
    store: ({ params }) => (params === 'other' ? memoryStore(64) : store),
  })
  // With another guest there, a turn is a MiB.
  const other = r.machine.createDomain()
  await r.plug({ guest: other, params: 'other' })
  await using present = await RawFrontend.open(other)
  await present.device.connected()
  await r.plug()
  const front = await RawFrontend.open(r.guest)
  await front.device.connected()
  for (let i = 0; i < 8; i++) front.put({ operation: DISCARD, nr_sectors: BigInt(64 * MIB) })
  front.send()
  while (counted.discarded === 0) await new Promise(setImmediate)
  r.machine.destroyDomain(r.guest.domid)
  await r.event(({ kind, disk }) => kind === 'closed' && disk.frontendDomid === r.guest.domid)
  expect(counted.discarded).toBeLessThan(8 * 64 * MIB)
  const { discarded } = counted
  await present.exchange({})
  expect(counted.discarded).toBe(discarded)
})

describe('in turns', () => {
  /** A turn that ends when `left` is used up. The next one comes when the test says so. */
  class Turn {
    left = TURN
    spent = 0
    readonly #waiting: (() => void)[] = []

    spend(work: number): void {
      this.left -= work
      this.spent += work
    }

    wait(ring: () => void): void {
      this.#waiting.push(ring)
    }

    next(): boolean {
      this.left = TURN
      const ring = this.#waiting.shift()
      ring?.()
      return ring !== undefined
    }
  }

  /** Runs a discard to its end. @returns its store calls, turn by turn */
  async function turnsOf(
    limits: BlockStore['discardLimits'],
    { sector = 0, end = 64, secure = false, stopped = () => false } = {},
  ) {
    const turns: string[][] = [[]]
    const guestTurn = new Turn()
    const discard: BlockStore['discard'] = (from, count, o) =>
      void turns.at(-1)?.push(`${from}+${count}${o.secure ? ' secure' : ''}`)
    const store = { ...memoryStore(64), discard, ...(limits && { discardLimits: limits }) }
    const done = discardInTurns({ store, sector, end, secure, guestTurn, stopped })
    for (;;) {
      turns.push([])
      if (!guestTurn.next()) break
    }
    await done
    return { turns: turns.filter((calls) => calls.length > 0), spent: guestTurn.spent }
  }

  const plain = { granularity: 512, alignment: 0, secure: true }

  test('a store without limits: one call of any length, charged as any other request', async () => {
    const { discardLimits: _, ...store } = memoryStore(64)
    const guestTurn = new Turn()
    await discardInTurns({
      store,
      sector: 0,
      end: 64,
      secure: false,
      guestTurn,
      stopped: () => false,
    })
    expect(guestTurn.spent).toBe(0)
  })

  test('long discards: whole granules, one call a turn, charged by length', async () => {
    expect(await turnsOf({ ...plain, granularity: 1024, maximum: 12_000 })).toEqual({
      turns: [['0+22'], ['22+22'], ['44+20']],
      spent: 256 + 256 + 233,
    })
    expect(
      await turnsOf({ ...plain, maximum: 16_384 }, { sector: 5, end: 38, secure: true }),
    ).toEqual({ turns: [['5+32 secure'], ['37+1 secure']], spent: 256 + 8 })
    // A call can't discard less than a granule.
    expect((await turnsOf({ ...plain, granularity: 16_384, maximum: 512 })).turns).toEqual([
      ['0+32'],
      ['32+32'],
    ])
  })

  test('several short discards share one turn', async () => {
    const guestTurn = new Turn()
    const store = { ...memoryStore(4096), discardLimits: { ...plain, maximum: 2 ** 20 } }
    for (let sector = 0; sector < 32; sector += 8) {
      await discardInTurns({
        store,
        sector,
        end: sector + 8,
        secure: false,
        guestTurn,
        stopped: () => false,
      })
    }
    expect(guestTurn.spent).toBe(4)
  })

  test('the limits are read again before each call', async () => {
    let maximum = 4096
    const limits = {
      ...plain,
      get maximum() {
        return maximum
      },
    }
    const calls: number[] = []
    const guestTurn = new Turn()
    const store: BlockStore = {
      ...memoryStore(64),
      async discard(_, count) {
        calls.push(count)
        maximum = Infinity
      },
    }
    Object.defineProperty(store, 'discardLimits', { value: limits })
    await discardInTurns({
      store,
      sector: 0,
      end: 64,
      secure: false,
      guestTurn,
      stopped: () => false,
    })
    expect(calls).toEqual([8, 56])
  })

  test.each(['throws', 'rejects'])('a call that %s ends it', async (how) => {
    const calls: number[] = []
    const store: BlockStore = {
      ...memoryStore(64),
      discard(sector) {
        calls.push(sector)
        if (how === 'throws') throw new Error('EIO')
        return Promise.reject(new Error('EIO'))
      },
      discardLimits: { ...plain, maximum: 4096 },
    }
    await expect(
      discardInTurns({
        store,
        sector: 0,
        end: 64,
        secure: false,
        guestTurn: new Turn(),
        stopped: () => false,
      }),
    ).rejects.toThrow('EIO')
    expect(calls).toEqual([0])
  })
})
