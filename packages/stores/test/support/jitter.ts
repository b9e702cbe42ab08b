/**
 * A store whose calls each take some turns of the event loop, and finish in another order than they
 * started.
 */
import type { BlockStore } from '@xenkit/block-store'
import { layerOn } from '../../src/layer.ts'

export function jitter(store: BlockStore, seed = 1): BlockStore {
  const { write, flush, discard } = store
  let state = seed
  const delay = async (): Promise<void> => {
    state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0
    for (let turns = (state >>> 16) % 4; turns > 0; turns--) {
      await new Promise((resolve) => setImmediate(resolve))
    }
  }
  /** Delays a call: half of the turns pass before the data moves, half after it. */
  const later =
    <A extends unknown[], R>(call: (...a: A) => R) =>
    async (...a: A): Promise<Awaited<R>> => {
      await delay()
      const result = await call.apply(store, a)
      await delay()
      return result
    }
  return layerOn(store, {
    read: later(store.read),
    ...(write ? { write: later(write) } : {}),
    ...(flush ? { flush: later(flush) } : {}),
    ...(discard ? { discard: later(discard) } : {}),
  })
}
