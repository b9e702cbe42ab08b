import * as fc from 'fast-check'
import { afterEach, beforeEach, expect, test } from 'vitest'
import type { XenstoreClient } from '../src/index.ts'
import { Store } from './support/store.ts'

let store: Store
let dom0: XenstoreClient
let other: XenstoreClient

beforeEach(async () => {
  store = new Store()
  dom0 = await store.open(0)
  other = await store.open(0)
})

afterEach(() => store[Symbol.dispose]())

const turns = async (count: number): Promise<void> => {
  for (let i = 0; i < count; i++) await new Promise((resolve) => setImmediate(resolve))
}

test('a body that is satisfied at once runs once', async () => {
  let runs = 0
  await other.write('/a', '1')
  expect(
    await dom0.wait(async (view) => {
      runs++
      return view.readOptional('/a')
    }),
  ).toBe('1')
  expect(runs).toBe(1)
  expect(store.leftOpen).toEqual([])
})

test('runs again when a node that it read changes, and only then', async () => {
  let runs = 0
  const waiting = dom0.wait(async (view) => {
    runs++
    return (await view.readOptional('/a')) === '2' || undefined
  })
  await turns(10)
  const settled = runs
  await other.write('/b', '1')
  await turns(10)
  expect(runs).toBe(settled)
  await other.write('/a', '1')
  await turns(10)
  expect(runs).toBe(settled + 1)
  await other.write('/a', '2')
  expect(await waiting).toBe(true)
  expect(store.leftOpen).toEqual([])
})

test('watches the nodes that the last run read, and no others', async () => {
  await other.write('/link', '/one')
  const waiting = dom0.wait(async (view) => {
    const target = await view.read('/link')
    return view.readOptional(`${target}/state`)
  })
  await turns(10)
  expect(store.leftOpen.map((line) => line.match(/"(.*?)"/)?.[1])).toEqual(['/link', '/one/state'])
  await other.write('/link', '/two')
  await turns(10)
  expect(store.leftOpen.map((line) => line.match(/"(.*?)"/)?.[1])).toEqual(['/link', '/two/state'])
  await other.write('/two/state', '4')
  expect(await waiting).toBe('4')
  expect(store.leftOpen).toEqual([])
})

test('a change that xenstored merges with the first event of the watch is not missed', async () => {
  const waiting = dom0.wait(async (view) => view.readOptional('/a'))
  const writing = other.write('/a', '1')
  expect(await waiting).toBe('1')
  await writing
})

test.each([
  [
    'list',
    async (client: XenstoreClient) => {
      await client.mkdir('/d/x')
    },
  ],
  [
    'exists',
    async (client: XenstoreClient) => {
      await client.mkdir('/d')
    },
  ],
  [
    'getPerms',
    async (client: XenstoreClient) => {
      await client.setPerms('/', { owner: 0, access: 'read', acl: [] })
    },
  ],
  [
    'readBytes',
    async (client: XenstoreClient) => {
      await client.write('/tool', 'x')
    },
  ],
] as const)('%s counts as reading', async (how, change) => {
  if (how === 'list') await other.mkdir('/d')
  const waiting = dom0.wait(async (view) => {
    switch (how) {
      case 'list':
        return (await view.list('/d')).length > 0 || undefined
      case 'exists':
        return (await view.exists('/d')) || undefined
      case 'getPerms':
        return (await view.getPerms('/')).access === 'read' || undefined
      case 'readBytes':
        return (await view.readBytes('/tool')).length > 0 || undefined
    }
  })
  await turns(10)
  await change(other)
  expect(await waiting).toBe(true)
})

test('an error of the body ends it', async () => {
  await expect(dom0.wait(async (view) => view.read('/missing'))).rejects.toMatchObject({
    errno: 'ENOENT',
  })
  await expect(dom0.wait(async (view) => view.read('/bad/'))).rejects.toBeInstanceOf(RangeError)
  expect(store.leftOpen).toEqual([])
})

test('ends on its signal with its reason', async () => {
  const reason = new Error('enough')
  const controller = new AbortController()
  const waiting = dom0.wait(async (view) => view.readOptional('/a'), { signal: controller.signal })
  const outcome = waiting.catch((error: unknown) => error)
  await turns(10)
  controller.abort(reason)
  expect(await outcome).toBe(reason)
  expect(store.leftOpen).toEqual([])
  let runs = 0
  await expect(
    dom0.wait(
      async () => {
        runs++
      },
      { signal: controller.signal },
    ),
  ).rejects.toBe(reason)
  expect(runs).toBe(0)
})

test('no change is missed, at any time', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.nat(6), { minLength: 1, maxLength: 6 }),
      fc.nat(3),
      async (pauses, spread) => {
        await other.rm('/race')
        const waiting = dom0.wait(async (view) => {
          const [a, b] = [await view.readOptional('/race/a'), await view.readOptional('/race/b')]
          return (a === String(pauses.length) && b === a) || undefined
        })
        for (const [i, pause] of pauses.entries()) {
          await turns(pause)
          const [one, two] = [other.write('/race/a', String(i + 1)), turns(spread)]
          await Promise.all([one, two])
          await other.write('/race/b', String(i + 1))
        }
        expect(await waiting).toBe(true)
        expect(store.leftOpen).toEqual([])
      },
    ),
    { numRuns: 200 },
  )
})
