/** Looks at what a program gives as its store: JavaScript, or a cast, has nothing else to check it. */
import type { BlockStore } from '../block-store.ts'
import { textOf } from '@xenkit/hypervisor'

const OPTIONAL = ['write', 'flush', 'discard', 'resize', 'openBatch', 'share', 'onResize'] as const

/** @throws TypeError that says what is expected */
export function expectStore(store: unknown): asserts store is BlockStore {
  if (typeof store !== 'object' || store === null) throw new TypeError(`"store" expected an object with "sectors" and "read", or a function that gives one, got ${textOf(store)}`)
  if (store instanceof Promise) throw new TypeError('"store" expected a store, got a promise of one: is an "await" missing?')
  const calls: Partial<Record<'read' | (typeof OPTIONAL)[number], unknown>> = store
  expectFunction('read', calls.read)
  for (const name of OPTIONAL) if (calls[name] !== undefined) expectFunction(name, calls[name])
}

function expectFunction(name: string, call: unknown): void {
  if (typeof call !== 'function') throw new TypeError(`"store.${name}" expected a function, got ${textOf(call)}`)
}
