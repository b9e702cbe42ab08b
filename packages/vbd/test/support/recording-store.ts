/**
 * A disk in memory that records its calls. A test can hold calls back, and let them go on later.
 */
import { type BlockStore, LEAVES_BUFFERS, type StoreResult } from '../../src/index.ts'

export interface RecordingStore extends BlockStore {
  readonly bytes: Uint8Array
  /** Every call that was started, as `write 8+16`, `flush`, `discard 0+8 secure`. */
  readonly calls: string[]
  /** From now on calls start, then wait. */
  hold(): void
  /** Resolves once `count` calls wait. */
  held(count: number): Promise<void>
  /** Lets the `count` oldest waiting calls go on. Without a number: all, and all later ones. */
  letGo(count?: number): void
  /** Changes the size and calls the listeners. */
  resize(sectors: number): void
}

export function recordingStore(
  initial: number,
  o: Pick<BlockStore, 'discardLimits' | 'sectorSize' | 'physicalSectorSize'> = {},
): RecordingStore {
  let sectors = initial
  const bytes = new Uint8Array(initial * 512)
  const calls: string[] = []
  const waiting: (() => void)[] = []
  const listeners = new Set<() => void>()
  let holding = false
  let arrived = (): void => {}

  /** Runs synchronously unless calls are held. */
  const run = (call: string, does: () => void): StoreResult | Promise<StoreResult> => {
    calls.push(call)
    if (!holding) return does()
    return new Promise<void>((resolve) => {
      waiting.push(() => resolve(does()))
      arrived()
    })
  }
  const count = (pieces: readonly Uint8Array[]): number =>
    pieces.reduce((sum, { length }) => sum + length / 512, 0)
  const move = (
    sector: number,
    pieces: readonly Uint8Array[],
    each: (piece: Uint8Array, disk: Uint8Array) => void,
  ): void => {
    let at = sector * 512
    for (const piece of pieces) {
      each(piece, bytes.subarray(at, at + piece.length))
      at += piece.length
    }
  }
  const flush = (): void | Promise<void> => {
    const done = run('flush', () => {})
    return done instanceof Promise ? done.then(() => {}) : undefined
  }
  return {
    get sectors() {
      return sectors
    },
    bytes,
    calls,
    ...o,
    read: (sector, into) =>
      run(`read ${sector}+${count(into)}`, () =>
        move(sector, into, (piece, disk) => piece.set(disk)),
      ),
    write: Object.assign((sector: number, from: Uint8Array[]) => {
      const write = (): void => move(sector, from, (piece, disk) => disk.set(piece))
      return run(`write ${sector}+${count(from)}`, write)
    }, LEAVES_BUFFERS),
    flush,
    discard(sector, length, { secure }) {
      const done = run(
        `discard ${sector}+${length}${secure ? ' secure' : ''}`,
        () => void bytes.fill(0, sector * 512, (sector + length) * 512),
      )
      return done instanceof Promise ? done.then(() => {}) : undefined
    },
    onResize(listener) {
      listeners.add(listener)
      return { [Symbol.dispose]: () => void listeners.delete(listener) }
    },
    hold: () => void (holding = true),
    held: async (calling) => {
      while (waiting.length < calling) await new Promise<void>((resolve) => (arrived = resolve))
    },
    letGo(going) {
      if (going === undefined) holding = false
      for (const go of waiting.splice(0, going ?? waiting.length)) go()
    },
    resize(changed) {
      sectors = changed
      for (const listener of listeners) listener()
    },
  }
}
