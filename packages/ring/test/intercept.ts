/** Gets between a ring and the index words, which it reaches by Atomics.load and Atomics.store alone. */

type Load = (words: Int32Array, index: number) => number
type Store = (words: Int32Array, index: number, value: number) => number

export interface Interceptor {
  load(words: Int32Array, index: number, real: Load): number
  store(words: Int32Array, index: number, value: number, real: Store): number
}

/** Runs `step` with both operations going through the interceptor. */
export function intercepted<T>(interceptor: Interceptor, step: () => T): T {
  const { load, store } = Atomics
  const replacement: { load: Load; store: Store } = {
    load: (words, index) => interceptor.load(words, index, load),
    store: (words, index, value) => interceptor.store(words, index, value, store),
  }
  Object.assign(Atomics, replacement)
  try {
    return step()
  } finally {
    Object.assign(Atomics, { load, store })
  }
}
