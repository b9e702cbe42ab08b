/**
 * A disk in memory that threads share. A test can hold calls of any thread back, and let them go on
 * later.
 */
import type { BlockStore } from '../../../src/index.ts'

interface Memory {
  readonly bytes: SharedArrayBuffer
  /** `HOLDING` and `HELD`. */
  readonly words: SharedArrayBuffer
}
const HOLDING = 0
const HELD = 1

/** Default export: an `OpenSharedStore`. */
export default function open(
  { bytes, words }: Memory,
  size: { readonly sectors: number },
): BlockStore {
  const state = new Int32Array(words)
  const disk = new Uint8Array(bytes)
  /** Runs synchronously unless calls are held. */
  const run = (does: () => void): void | Promise<void> =>
    Atomics.load(state, HOLDING) === 1 ? held().then(does) : does()
  const held = async (): Promise<void> => {
    while (Atomics.load(state, HOLDING) === 1) {
      Atomics.add(state, HELD, 1)
      Atomics.notify(state, HELD)
      await Atomics.waitAsync(state, HOLDING, 1).value
    }
  }
  const move = (
    sector: number,
    pieces: readonly Uint8Array[],
    each: (piece: Uint8Array, part: Uint8Array) => void,
  ): void | Promise<void> =>
    run(() => {
      let at = sector * 512
      for (const piece of pieces) each(piece, disk.subarray(at, (at += piece.length)))
    })
  return {
    get sectors() {
      return size.sectors
    },
    read: (sector, into) => move(sector, into, (piece, part) => piece.set(part)),
    write: (sector, from) => move(sector, from, (piece, part) => part.set(piece)),
    flush: () => run(() => {}),
    discard: (sector, count) => run(() => void disk.fill(0, sector * 512, (sector + count) * 512)),
  }
}

export interface SharedMemoryStore extends BlockStore {
  readonly bytes: Uint8Array
  /** Number of threads that use the store. */
  users(): number
  hold(): void
  /** Resolves once `count` calls have been held. */
  held(count: number): Promise<void>
  letGo(): void
  /** Changes the size and calls the listeners. */
  resize(sectors: number): void
}

export function sharedMemoryStore(initial: number): SharedMemoryStore {
  const memory: Memory = {
    bytes: new SharedArrayBuffer(initial * 512),
    words: new SharedArrayBuffer(8),
  }
  const state = new Int32Array(memory.words)
  const listeners = new Set<() => void>()
  const size = { sectors: initial }
  let users = 0
  return Object.assign(open(memory, size), {
    bytes: new Uint8Array(memory.bytes),
    users: () => users,
    share() {
      users++
      return { module: import.meta.url, data: memory, [Symbol.dispose]: () => void users-- }
    },
    onResize(listener: () => void) {
      listeners.add(listener)
      return { [Symbol.dispose]: () => void listeners.delete(listener) }
    },
    hold: () => void Atomics.store(state, HOLDING, 1),
    async held(count: number) {
      for (let seen = Atomics.load(state, HELD); seen < count; seen = Atomics.load(state, HELD)) {
        await Atomics.waitAsync(state, HELD, seen).value
      }
    },
    letGo() {
      Atomics.store(state, HOLDING, 0)
      Atomics.notify(state, HOLDING)
    },
    resize(sectors: number) {
      size.sectors = sectors
      for (const listener of listeners) listener()
    },
  })
}
