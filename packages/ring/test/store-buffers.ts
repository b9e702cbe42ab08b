/**
 * A model of two processors with store buffers (x86; weaker ones reorder no more than this where
 * every access is atomic), on which recorded accesses run in every interleaving. An `Atomics.store`
 * waits until its processor's buffer is empty; a plain store may stay in it while later loads go
 * ahead.
 *
 * All words begin at 0 and every store sets its word to 1: "not yet" and "done".
 */
import { expect } from 'vitest'
import type { Interceptor } from './intercept.ts'

export interface Access {
  /**
   * `notify` sends an event: it is there at once, whatever the sender's buffer still holds. `await`
   * goes on when it is there.
   */
  readonly kind: 'load' | 'store' | 'plain store' | 'notify' | 'await'
  readonly word: string
}

/**
 * Takes down the accesses to index words that are made through its interceptor. A plain store shows
 * as the absence of one.
 */
export function recorder(wordNames: ReadonlyMap<number, string>): {
  readonly accesses: Access[]
  readonly interceptor: Interceptor
} {
  const accesses: Access[] = []
  const note = (kind: Access['kind'], index: number): void => {
    accesses.push({ kind, word: wordNames.get(index) ?? expect.unreachable() })
  }
  return {
    accesses,
    interceptor: {
      load: (words, index, load) => {
        note('load', index)
        return load(words, index)
      },
      store: (words, index, value, store) => {
        note('store', index)
        return store(words, index, value)
      },
    },
  }
}

/** The same accesses by a program that knows no barriers. */
export const plain = (accesses: readonly Access[]): Access[] =>
  accesses.map((access) => (access.kind === 'store' ? { ...access, kind: 'plain store' } : access))

/** A state of the model: two processors over one memory. */
interface State {
  /** How many accesses each has made. */
  readonly at: Both<number>
  readonly memory: Readonly<Record<string, number>>
  /** Plain stores that only their own processor sees yet, oldest first. */
  readonly buffers: Both<readonly string[]>
  /** What each loaded last. */
  readonly seen: Both<number>
}
type Both<T> = readonly [T, T]

const set = <T>(both: Both<T>, side: 0 | 1, value: T): Both<T> =>
  side === 0 ? [value, both[1]] : [both[0], value]

/**
 * Every state that one step leads to: an access of either processor, or a store that leaves its
 * buffer.
 */
function* successors(programs: Both<readonly Access[]>, state: State): Generator<State> {
  for (const side of [0, 1] as const) {
    const buffer = state.buffers[side]
    const [oldest, ...younger] = buffer
    if (oldest !== undefined) {
      yield {
        ...state,
        memory: { ...state.memory, [oldest]: 1 },
        buffers: set(state.buffers, side, younger),
      }
    }
    const access = programs[side][state.at[side]]
    if (
      access === undefined ||
      (access.kind === 'store' && oldest !== undefined) ||
      (access.kind === 'await' && state.memory[access.word] !== 1)
    ) {
      continue
    }
    const next = { ...state, at: set(state.at, side, state.at[side] + 1) }
    if (access.kind === 'store' || access.kind === 'notify') {
      yield { ...next, memory: { ...state.memory, [access.word]: 1 } }
    } else if (access.kind === 'plain store') {
      yield { ...next, buffers: set(state.buffers, side, [...buffer, access.word]) }
    } else if (access.kind === 'await') yield next
    else {
      yield {
        ...next,
        seen: set(
          state.seen,
          side,
          buffer.includes(access.word) ? 1 : (state.memory[access.word] ?? 0),
        ),
      }
    }
  }
}

/**
 * Runs both programs in every interleaving. @returns in how many the last load that each came to
 * found "not yet"
 */
export function bothSeeNothing(programs: Both<readonly Access[]>): number {
  const from = (state: State): number => {
    const next = [...successors(programs, state)]
    if (next.length > 0) return next.reduce((count, one) => count + from(one), 0)
    return state.seen[0] === 0 && state.seen[1] === 0 ? 1 : 0
  }
  return from({ at: [0, 0], memory: {}, buffers: [[], []], seen: [0, 0] })
}
