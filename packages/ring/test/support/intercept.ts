/**
 * Intercepts a ring's accesses to its index words. The ring makes them only by Atomics.load and
 * Atomics.store.
 */

type Load = (words: Int32Array, index: number) => number
type Store = (words: Int32Array, index: number, value: number) => number

export interface Interceptor {
  load(words: Int32Array, index: number, real: Load): number
  store(words: Int32Array, index: number, value: number, real: Store): number
}

/**
 * Routes Atomics.load and Atomics.store through the interceptor.
 * @returns a function that restores both
 */
export function intercept(interceptor: Interceptor): () => void {
  const { load, store } = Atomics
  const replacement: { load: Load; store: Store } = {
    load: (words, index) => interceptor.load(words, index, load),
    store: (words, index, value) => interceptor.store(words, index, value, store),
  }
  Object.assign(Atomics, replacement)
  return () => void Object.assign(Atomics, { load, store })
}

/** Runs `step` while Atomics.load and Atomics.store go through the interceptor. */
export function intercepted<T>(interceptor: Interceptor, step: () => T): T {
  const end = intercept(interceptor)
  try {
    return step()
  } finally {
    end()
  }
}
