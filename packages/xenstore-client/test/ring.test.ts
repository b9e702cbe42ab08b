/** The client over a xenstore ring, which carries 1024 bytes each way, instead of a stream. */
import { createMachine } from '@xenkit/sim'
import { describe, expect, test } from 'vitest'
import { startThread } from '../../sim/test/support/threads/start-thread.ts'
import { openXenstore } from '../src/index.ts'

/**
 * Creates a guest with a ring and domain 0 with or without one, and opens a client in each domain.
 */
async function open(o: { dom0?: 'direct' | 'ring' } = {}) {
  const machine = createMachine()
  const dom0 = machine.createDomain({ xenstore: o.dom0 ?? 'direct' })
  const guest = machine.createDomain({ xenstore: 'ring' })
  const [toolstack, xs] = [await openXenstore(dom0.xenstore), await openXenstore(guest.xenstore)]
  return {
    machine,
    guest,
    toolstack,
    xs,
    async [Symbol.asyncDispose]() {
      toolstack.close()
      xs.close()
      await machine[Symbol.asyncDispose]()
    },
  }
}

const numbers = (count: number): number[] => Array.from({ length: count }, (_, i) => i)

test('thousands of requests in flight', async () => {
  await using m = await open()
  await Promise.all(numbers(3000).map((i) => m.xs.write(`data/${i % 100}`, `value ${i}`)))
  const values = await Promise.all(numbers(5000).map((i) => m.xs.read(`data/${i % 100}`)))
  expect(values).toEqual(numbers(5000).map((i) => `value ${2900 + (i % 100)}`))
  expect((await m.xs.list('data')).length).toBe(100)
})

test('messages of 4096 bytes, four times what a ring holds', async () => {
  await using m = await open({ dom0: 'ring' })
  const path = '/local/domain/1/data/long'
  const value = Uint8Array.from({ length: 4096 - path.length - 1 }, (_, i) => (i * 167) & 0xff)
  await m.toolstack.write(path, value)
  const values = await Promise.all(numbers(50).map(() => m.toolstack.readBytes(path)))
  for (const got of values) expect(Buffer.from(got).equals(value)).toBe(true)
  expect(Buffer.from(await m.xs.readBytes('data/long')).equals(value)).toBe(true)
  // ENOSPC is xenstored's limit for a guest, so the long message itself has arrived.
  await expect(m.xs.write('data/own', value)).rejects.toMatchObject({ errno: 'ENOSPC' })
})

test('a flood of watch events, between replies', async () => {
  await using m = await open()
  await m.toolstack.setPerms('/local/domain/1/data', { owner: 1, access: 'none', acl: [] })
  const heard = new Set<string>()
  const ended = new AbortController()
  const watching = (async () => {
    for await (const path of m.xs.watch('data', { signal: ended.signal })) {
      heard.add(path)
      if (heard.size === 1001) return // the path itself and 1000 paths below it
    }
  })()
  while (heard.size === 0) await m.xs.exists('data')
  const reads = numbers(1000).map((i) => m.xs.readOptional(`data/${i}`))
  await Promise.all(numbers(1000).map((i) => m.toolstack.write(`/local/domain/1/data/${i}`, 'x')))
  await Promise.all([...reads, watching])
  expect(heard).toEqual(new Set(['data', ...numbers(1000).map((i) => `data/${i}`)]))
})

test('competing transactions of two clients', async () => {
  await using m = await open()
  const path = '/local/domain/1/data/count'
  await m.xs.write(path, '0')
  const increment = (xs: typeof m.xs) =>
    xs.transaction(async (view) => view.write(path, String(Number(await view.read(path)) + 1)))
  await Promise.all(numbers(10).flatMap(() => [increment(m.xs), increment(m.toolstack)]))
  expect(await m.xs.read(path)).toBe('20')
})

test('a guest on a thread of its own', { timeout: 60_000 }, async () => {
  await using machine = createMachine()
  const dom0 = machine.createDomain()
  const guest = machine.createDomain({ xenstore: 'ring' })
  const xs = await openXenstore(dom0.xenstore)
  await using thread = startThread(
    '../../../../xenstore-client/test/support/ring-thread.ts',
    guest,
    [300],
  )
  expect(await thread.next()).toBe('connected')
  const report = thread.next()
  for (let round = 1; round <= 300; round++) {
    await xs.write('/local/domain/1/data/ping', String(round))
    await xs.wait(
      async (view) =>
        (await view.readOptional('/local/domain/1/data/pong')) === String(round) || undefined,
    )
  }
  expect(await report).toBe(0)
  await thread.ended()
  xs.close()
})

describe('another client on the same ring', () => {
  test('sees nothing of the previous one: no watch, transaction or reply', async () => {
    await using m = await open()
    void m.xs.watch('data').next()
    void m.xs
      .transaction(async (view) => {
        await view.read('name')
        return new Promise(() => {}) // a body that never ends
      })
      .catch(() => {})
    await m.xs.read('name')
    const forgotten = Promise.allSettled(numbers(500).map(() => m.xs.list('')))
    await m.xs.exists('data')
    m.xs.close()
    expect((await forgotten).some(({ status }) => status === 'rejected')).toBe(true)
    using next = await openXenstore(m.guest.xenstore)
    expect(await Promise.all(numbers(100).map(() => next.read('name')))).toEqual(
      numbers(100).map(() => 'sim-1'),
    )
    expect(m.machine.xenstored.openResources().filter((line) => line.includes('domain 1'))).toEqual(
      ['xenstore connection of domain 1'],
    )
  })

  test('works after xenstored closed the ring on the previous one', async () => {
    await using m = await open()
    await m.xs.watch('data').next()
    m.machine.xenstored.releaseDomain(1)
    m.xs.close()
    m.machine.xenstored.introduceDomain(1)
    using next = await openXenstore(m.guest.xenstore)
    expect(await next.getDomainPath(1)).toBe('/local/domain/1')
  })
})

test('a client recovers, with its watches, after xenstored closed its ring', async () => {
  await using machine = createMachine()
  const dom0 = machine.createDomain()
  const guest = machine.createDomain({ xenstore: 'ring' })
  using toolstack = await openXenstore(dom0.xenstore)
  using xs = await openXenstore(guest.xenstore)
  await toolstack.write('/shared', '')
  await toolstack.setPerms('/shared', { owner: 0, access: 'read', acl: [] })
  const value = xs.wait(async (view) => (await view.read('/shared')) || undefined)
  await xs.getDomainPath(1)
  machine.xenstored.releaseDomain(1)
  const asked = xs.getDomainPath(1)
  machine.xenstored.introduceDomain(1)
  expect(await asked).toBe('/local/domain/1')
  await toolstack.write('/shared', 'x')
  expect(await value).toBe('x')
})

test('a client whose domain is destroyed ends at once', async () => {
  await using machine = createMachine()
  machine.createDomain()
  const guest = machine.createDomain({ xenstore: 'ring' })
  using xs = await openXenstore(guest.xenstore)
  await xs.read('name')
  machine.destroyDomain(1)
  await expect(xs.read('name')).rejects.toMatchObject({ code: 'ERR_XEN_XENSTORE_CLOSED' })
})
