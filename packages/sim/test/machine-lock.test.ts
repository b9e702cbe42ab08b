import { Worker } from 'node:worker_threads'
import { expect, test } from 'vitest'
import { MachineLock } from '../src/machine-lock.ts'
import { twoDomains } from './support/machine.ts'
import { startThread } from './support/threads/start-thread.ts'

test(
  'a hypercall whose thread was terminated blocks the machine until its domain is destroyed',
  { timeout: 60_000 },
  async () => {
    await using m = twoDomains()
    const share = m.back.grants.share({ domid: 1, pages: 1, writable: true })
    await using thread = startThread('die-in-hypercall.ts', m.front, [share.grefs[0] ?? 0])
    expect(await thread.next()).toBe('inside')
    await thread.terminate()
    expect(() => m.back.arena.allocate(1)).toThrow('held by a hypercall of domain 1')
    m.machine.destroyDomain(1)
    m.back.arena.allocate(1).close()
    // The killed thread's incomplete mapping doesn't keep the grant in use.
    share.close()
  },
)

test(
  'a machine can be closed while a terminated thread holds it',
  { timeout: 60_000 },
  async () => {
    const { machine, back, front } = twoDomains()
    const share = back.grants.share({ domid: 1, pages: 1, writable: true })
    await using thread = startThread('die-in-hypercall.ts', front, [share.grefs[0] ?? 0])
    await thread.next()
    await thread.terminate()
    await machine.close()
    expect(() => machine.assertQuiescent()).not.toThrow()
  },
)

test(
  'a domain that enters again and again is not taken for one that never leaves',
  { timeout: 60_000 },
  async () => {
    const words = new Int32Array(new SharedArrayBuffer(8))
    const lock = new MachineLock(words, 0)
    lock.acquire(3)
    // Another thread hands the machine's lock from domain 3 to domain 3 without ever freeing it,
    // for longer than any time limit.
    const worker = new Worker(
      `const { workerData: words } = require('node:worker_threads')
     const until = performance.now() + 3000
     while (performance.now() < until) {
        Atomics.add(words, 0, 1 << 17)
        Atomics.wait(words, 1, 0, 100)
      }
     Atomics.and(words, 0, ~0xffff)
     Atomics.notify(words, 0)`,
      { eval: true, workerData: words },
    )
    expect(lock.acquire(5)).toBe(false)
    await worker.terminate()
  },
)

test('the lock is taken from dead holders only', { timeout: 60_000 }, () => {
  const lock = new MachineLock(new Int32Array(new SharedArrayBuffer(4)), 0)
  lock.acquire(3)
  expect(lock.acquire(0, [3])).toBe(true)
  // The dead holder's late release must not affect the new holder.
  lock.release(3)
  expect(() => lock.acquire(5)).toThrow('held by a hypercall of domain 0')
  lock.release(0)
  expect(lock.acquire(5)).toBe(false)
})
