/** Checks a program's store at run time, since JavaScript and casts bypass the type. */
import type { BlockStore } from '@xenkit/block-store'
import { textOf } from '@xenkit/hypervisor'

const OPTIONAL = ['write', 'flush', 'discard', 'resize', 'openBatch', 'share', 'onResize'] as const

/** @throws TypeError if `store` isn't a `BlockStore`, naming the member */
export function expectStore(store: unknown): asserts store is BlockStore {
  if (typeof store !== 'object' || store === null) {
    const expected =
      'an object with "sectors" and "read", or a function that answers with one, "decline" or "no-medium"'
    throw unexpected('store', expected, store)
  }
  if (store instanceof Promise) {
    throw new TypeError('"store" expected a store, got a promise of one: is an "await" missing?')
  }
  const calls: Partial<Record<'read' | (typeof OPTIONAL)[number], unknown>> = store
  expectFunction('read', calls.read)
  for (const name of OPTIONAL) if (calls[name] !== undefined) expectFunction(name, calls[name])
}

function expectFunction(name: string, call: unknown): void {
  if (typeof call !== 'function') throw unexpected(`store.${name}`, 'a function', call)
}

const unexpected = (name: string, expected: string, found: unknown): TypeError =>
  new TypeError(`"${name}" expected ${expected}, got ${textOf(found)}`)
