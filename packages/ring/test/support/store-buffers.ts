/**
 * A model of two processors with store buffers, which runs recorded accesses in every interleaving.
 * It models x86. Weaker processors reorder no more than this where every access is atomic. An
 * `Atomics.store` waits until its processor's buffer is empty. A plain store may stay in the buffer
 * while later loads go ahead.
 *
 * All words start at 0, "not yet", and every store sets its word to 1, "done".
 */
import { expect } from 'vitest'
import type { Interceptor } from './intercept.ts'

/** One access of a program. */
export interface Access {
  /**
   * `notify` sends an event immediately, whatever the sender's store buffer still holds. `await`
   * waits for that event.
   */
  readonly kind: 'load' | 'store' | 'plain store' | 'notify' | 'await'
  readonly word: string
}

/**
 * Records accesses to index words that go through its interceptor. A plain store doesn't appear.
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

/** Returns the same accesses without barriers: every atomic store becomes a plain store. */
export const plain = (accesses: readonly Access[]): Access[] =>
  accesses.map((access) => (access.kind === 'store' ? { ...access, kind: 'plain store' } : access))

/** A state of the model: two processors that share one memory. */
interface State {
  /** Number of accesses that each processor has made. */
  readonly at: Both<number>
  readonly memory: Readonly<Record<string, number>>
  /** Plain stores of each processor that the other doesn't see yet, oldest first. */
  readonly buffers: Both<readonly string[]>
  /** Value that each processor loaded last. */
  readonly seen: Both<number>
}
type Both<T> = readonly [T, T]

const set = <T>(both: Both<T>, side: 0 | 1, value: T): Both<T> =>
  side === 0 ? [value, both[1]] : [both[0], value]

/**
 * Yields every state that one step leads to: an access by either processor, or a store that leaves
 * its buffer.
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
 * Runs both programs in every interleaving.
 * @returns in how many of them both programs' last loads found "not yet"
 */
export function bothSeeNothing(programs: Both<readonly Access[]>): number {
  const from = (state: State): number => {
    const next = [...successors(programs, state)]
    if (next.length > 0) return next.reduce((count, one) => count + from(one), 0)
    return state.seen[0] === 0 && state.seen[1] === 0 ? 1 : 0
  }
  return from({ at: [0, 0], memory: {}, buffers: [[], []], seen: [0, 0] })
}
