/**
 * The table of docs/fair-turns.md: no request holds the event loop for long, or takes memory for
 * more than it writes, whatever its length and whatever the store.
 */
import { randomBytes } from 'node:crypto'
import { describe, expect, test } from 'vitest'
import { discardInTurns } from '../../vbd/src/backend/discard-in-turns.ts'
import { TURN } from '@xenkit/backend'
import type { BlockStore } from '@xenkit/block-store'
import {
  cachedStore,
  encryptedStore,
  faultyStore,
  memoryStore,
  overlayStore,
  snapshotStore,
  sparseStore,
  throttledStore,
} from '../src/index.ts'

/**
 * Allows far more time than a call takes, for a busy machine; work that grows with a disk's size
 * takes far longer still.
 */
const HELD_MS_MAX = 50
const MEMORY_MAX = 64 * 2 ** 20
/**
 * Each limit must hold in one of these attempts: early ones run uncompiled code, or on a busy
 * machine.
 */
const TRIES_MAX = 20

const TIB_4 = 2 ** 33
const MIB_64 = 2 ** 17

/** A store of any size without content: its calls do nothing. */
const nowhere = (sectors: number): BlockStore => ({
  sectors,
  read() {},
  write() {},
  flush() {},
  discard() {},
})

const used = (): BlockStore & { readonly sectors: number } =>
  memoryStore(new Uint8Array(MIB_64 * 512).fill(1))

const stores: Record<string, () => BlockStore | Promise<BlockStore>> = {
  memory: used,
  sparse: () => sparseStore(2 ** 43),
  overlay: () => overlayStore(nowhere(TIB_4)),
  'overlay, in blocks of a sector that are written in turn': async () => {
    const store = overlayStore(nowhere(TIB_4), { blockSize: 512 })
    for (let sector = 0; sector < 4096; sector += 2) {
      await store.write?.(sector, [new Uint8Array(512)])
    }
    return store
  },
  'overlay in memory': () => overlayStore(nowhere(MIB_64), { top: used() }),
  'cache, full': async () => {
    const store = cachedStore(nowhere(TIB_4), { bytes: 2 ** 23, blockSize: 512 })
    for (let sector = 0; sector < 2 ** 14; sector += 2048) {
      await store.read(sector, [new Uint8Array(2 ** 20)])
    }
    return store
  },
  'cache, empty': () => cachedStore(nowhere(TIB_4), { bytes: 2 ** 26 }),
  encrypted: () => encryptedStore(used(), { key: randomBytes(64), allowDiscards: true }),
  throttled: () => throttledStore(used(), { calls: { perSecond: 1e9 } }),
  faulty: () => faultyStore(used(), () => undefined),
  live: () => snapshotStore(nowhere(TIB_4)),
  'live, with a snapshot': async () => {
    const store = snapshotStore(used())
    await store.take({ into: nowhere(MIB_64) })
    return store
  },
}

const views = (): Uint8Array[] => Array.from({ length: 256 }, () => new Uint8Array(4096))

/** The largest calls that the backend makes for a guest while other guests have requests. */
const operations: Record<string, (store: BlockStore) => unknown> = {
  read: (store) => store.read(0, views()),
  write: (store) => store.write?.(1, views()),
  flush: (store) => store.flush?.(),
  discard: (store) => {
    const guestTurn = {
      left: TURN,
      spend(work: number): void {
        guestTurn.left -= work
      },
      wait(ring: () => void): void {
        setImmediate(() => {
          guestTurn.left = TURN
          ring()
        })
      },
    }
    return discardInTurns({
      store,
      sector: 0,
      end: store.sectors,
      secure: false,
      guestTurn,
      stopped: () => false,
    })
  },
}

/** @returns the longest time in milliseconds between two turns of the event loop during `work` */
async function held(work: () => unknown): Promise<number> {
  let longest = 0
  let since = performance.now()
  const look = (): void => {
    const now = performance.now()
    longest = Math.max(longest, now - since)
    since = now
  }
  let going = true
  const tick = (): void => {
    look()
    if (going) setImmediate(tick)
  }
  setImmediate(tick)
  await work()
  look()
  going = false
  return longest
}

const memory = (): number => {
  const { heapUsed, arrayBuffers } = process.memoryUsage()
  return heapUsed + arrayBuffers
}

describe.each(Object.entries(stores))('%s', (_, open) => {
  test.each(Object.entries(operations))('%s', async (_name, operation) => {
    const store = await open()
    const before = memory()
    const times = [await held(() => operation(store))]
    expect(memory() - before).toBeLessThan(MEMORY_MAX)
    while (Math.min(...times) > HELD_MS_MAX && times.length < TRIES_MAX) {
      times.push(await held(() => operation(store)))
    }
    expect(Math.min(...times)).toBeLessThan(HELD_MS_MAX)
  })
})
