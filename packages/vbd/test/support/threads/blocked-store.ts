/** A disk whose reads block the calling thread until the test lets them go on. */
import type { BlockStore } from '../../../src/index.ts'

const BLOCKED = 0
const LET_GO = 1

/** Default export: an `OpenSharedStore`. */
export default function open(words: SharedArrayBuffer): BlockStore {
  const state = new Int32Array(words)
  return {
    sectors: 64,
    read() {
      Atomics.store(state, BLOCKED, 1)
      Atomics.notify(state, BLOCKED)
      Atomics.wait(state, LET_GO, 0)
    },
  }
}

export function blockedStore() {
  const words = new SharedArrayBuffer(8)
  const state = new Int32Array(words)
  const store: BlockStore = {
    ...open(words),
    share: () => ({ module: import.meta.url, data: words, [Symbol.dispose]: () => {} }),
  }
  return {
    store,
    async blocked(): Promise<void> {
      if (Atomics.load(state, BLOCKED) === 0) await Atomics.waitAsync(state, BLOCKED, 0).value
    },
    letGo(): void {
      Atomics.store(state, LET_GO, 1)
      Atomics.notify(state, LET_GO)
    },
  }
}
