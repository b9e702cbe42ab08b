/**
 * The hypervisor refuses to unmap, free or notify. That disk closes with the reason, everything
 * else of it is freed once, and no other disk notices (XSA-361, 362, 365, 367).
 */
import { EvtchnError, GrantError, type Hypervisor } from '@xenkit/hypervisor'
import { BLKIF_OP, BLKIF_RSP } from '@xenkit/wire'
import { describe, expect, test, vi } from 'vitest'
import type { DataPathKind } from '../../src/backend/data-path.ts'
import type { BlockStore } from '../../src/index.ts'
import { memoryStore } from '@xenkit/stores'
import { hooked } from '../../../backend/test/support/hooked-hypervisor.ts'
import { instantBatch } from '../support/instant-batch.ts'
import { RawFrontend } from '../support/raw-frontend.ts'
import { type Rig, rig } from '../support/rig.ts'

const XVDA = 51_712
/** Indexes in a batch of four. */
const EACH = [0, 1, 2, 3]

type Call = 'unmap' | 'free' | 'copyOut' | 'closeCopies' | 'notify' | 'unmask' | 'unbind'

/**
 * A domain for which one call throws after it has done its work, as if the driver had refused it.
 */
class Failing {
  /** The guest whose event-channel calls are counted and can fail. */
  guest: number | undefined
  /** Calls of each kind since `arm`. */
  readonly calls = new Map<Call, number>()
  /** How often pages are mapped now, by their offset in the arena. */
  readonly mapped = new Map<number, number>()
  #armed: { readonly call: Call; index: number } | undefined

  arm(call: Call, index: number): void {
    this.calls.clear()
    this.#armed = { call, index }
  }

  readonly through = (hv: Hypervisor): Hypervisor =>
    hooked(hv, {
      bind: (bind, ...args) => {
        const binding = bind(...args)
        // The simulation sometimes delivers spurious events, to the other disk too.
        if (args[0].domid !== this.guest) return binding
        this.#hook(binding, 'notify', 'notify')
        this.#hook(binding, 'unmask', 'unmask')
        this.#hook(binding, 'close', 'unbind')
        return binding
      },
      allocated: (allocate, pages) => this.#hook(allocate(pages), 'close', 'free'),
      mapped: (mapping) => this.#mapping(mapping, mapping.byteOffset),
      mappedPages: (pages) => this.#mapping(pages, pages.offsets[0] ?? 0),
      opened: (batch) => {
        this.#hook(batch, 'copyOut', 'copyOut')
        return this.#hook(batch, 'close', 'closeCopies')
      },
    })

  #mapping<T extends { close(): void }>(mapping: T, at: number): T {
    const count = (change: number): unknown =>
      this.mapped.set(at, (this.mapped.get(at) ?? 0) + change)
    const close = mapping.close.bind(mapping)
    count(1)
    mapping.close = () => {
      count(-1)
      close()
    }
    return this.#hook(mapping, 'close', 'unmap')
  }

  #hook<Name extends string, T extends { [_ in Name]: (...args: never[]) => unknown }>(
    object: T,
    name: Name,
    call: Call,
  ): T {
    const does = object[name].bind(object)
    const hook = (...args: never[]): unknown => {
      const result = does(...args)
      const index = this.calls.get(call) ?? 0
      this.calls.set(call, index + 1)
      if (this.#armed?.call === call && this.#armed.index === index) throw refusal(call)
      return result
    }
    return Object.assign(object, { [name]: hook })
  }
}

const refusal = (call: Call): Error => {
  const [text, isEvent] = [`cannot ${call}: EIO`, ['notify', 'unmask', 'unbind'].includes(call)]
  return isEvent ? new EvtchnError(text, { errno: 'EIO' }) : new GrantError(text, { status: -5 })
}

/** Two disks of two guests. The second has to be served whatever becomes of the first. */
async function twoDisks(
  failing: Failing,
  o: { readonly dataPath: DataPathKind; readonly store: BlockStore },
) {
  const neighbour = memoryStore(1024)
  const r = await rig({
    dataPath: o.dataPath,
    through: failing.through,
    store: ({ devid }) => (devid === XVDA ? o.store : neighbour),
  })
  failing.guest = r.guest.domid
  const other = r.machine.createDomain()
  await r.plug({ vdev: 'xvda' })
  await r.plug({ vdev: 'xvdb', guest: other })
  const front = await RawFrontend.open(r.guest, { vdev: 'xvda', dataPages: 4, persistent: true })
  const beside = await RawFrontend.open(other, { vdev: 'xvdb', persistent: true })
  await Promise.all([front.device.connected(), beside.device.connected()])
  return { r, front, beside }
}

async function expectFailed(r: Rig, front: RawFrontend, call: Call): Promise<void> {
  const { error, disk } = await r.event(({ kind }) => kind === 'failed')
  expect([error, disk.devid]).toEqual([refusal(call), XVDA])
  await front.device.backendClosing()
  const node = `/local/domain/0/error/backend/vbd/${r.guest.domid}/${XVDA}/error`
  expect(await r.xs.read(node)).toBe(`cannot ${call}: EIO`)
}

async function end({ r, front, beside }: Awaited<ReturnType<typeof twoDisks>>): Promise<void> {
  const answers = await beside.exchange({}, { operation: BLKIF_OP.WRITE })
  expect(answers.map(({ status }) => status)).toEqual([BLKIF_RSP.OKAY, BLKIF_RSP.OKAY])
  await front[Symbol.asyncDispose]()
  await beside[Symbol.asyncDispose]()
  expect(r.events.filter(({ kind }) => kind === 'failed')).toHaveLength(1)
  await r[Symbol.asyncDispose]()
}

const later = <T>(value: T): Promise<T> => new Promise((resolve) => setImmediate(resolve, value))

/** Ways for a store to complete: synchronously, asynchronously, or in batches. */
const stores: Record<string, () => BlockStore> = {
  'in the call': () => memoryStore(1024),
  later: () => ({ sectors: 1024, read: () => later(undefined), write: () => later(undefined) }),
  'in batches': () => ({ sectors: 1024, read() {}, write() {}, openBatch: (o) => instantBatch(o) }),
  'in batches, later': () => ({
    sectors: 1024,
    read() {},
    write() {},
    openBatch(o) {
      const batch = instantBatch(o)
      const started: number[] = []
      return {
        ...batch,
        start(listed) {
          batch.start(listed)
          started.push(...batch.jobs.list.subarray(0, listed))
          setImmediate(() => {
            for (const job of started.splice(0)) o.done(job)
            o.turned()
          })
          return 0
        },
      }
    },
  }),
}

describe.each(Object.keys(stores))('a store that completes %s', (kind) => {
  const store = stores[kind]?.() ?? memoryStore(1)

  test.each(EACH)('the unmap of request %i fails: the others are unmapped once', async (index) => {
    const failing = new Failing()
    const disks = await twoDisks(failing, { dataPath: 'map', store })
    const { r, front } = disks
    failing.arm('unmap', index)
    // Sectors that aren't adjacent, so that no two requests are merged.
    for (const [i, gref] of front.data.grefs.entries()) {
      front.put({ sector: BigInt(16 * i), segments: [{ gref }] })
    }
    front.send()
    await expectFailed(r, front, 'unmap')
    await front.device.close()
    await r.event(({ kind: is }) => is === 'closed')
    expect([...failing.mapped.values()].filter((count) => count !== 0)).toEqual([1])
    // The requests' pages and the ring.
    expect(failing.calls.get('unmap')).toBe(5)
    await end(disks)
  })

  test.each(['copyOut', 'notify', 'unmask'] as const)('%s fails', async (call) => {
    const failing = new Failing()
    const disks = await twoDisks(failing, { dataPath: 'copy', store })
    failing.arm(call, 0)
    disks.front.put({})
    disks.front.send()
    await expectFailed(disks.r, disks.front, call)
    await end(disks)
  })
})

test.each(EACH)('the unmap of cached page %i fails: others are unmapped once', async (index) => {
  const failing = new Failing()
  const disks = await twoDisks(failing, { dataPath: 'persistent', store: memoryStore(1024) })
  const { r, front } = disks
  for (const gref of front.data.grefs) await front.exchange({ segments: [{ gref }] })
  failing.arm('unmap', index)
  await front.device.close()
  const { error } = await r.event(({ kind }) => kind === 'failed')
  expect(error).toEqual(refusal('unmap'))
  await r.event(({ kind }) => kind === 'closed')
  expect(failing.calls.get('unmap')).toBe(5)
  expect([...failing.mapped.values()].filter((count) => count !== 0)).toEqual([1])
  await end(disks)
})

test('the unmap of a page that was not used for a minute fails', async () => {
  const failing = new Failing()
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] })
  try {
    const disks = await twoDisks(failing, { dataPath: 'persistent', store: memoryStore(1024) })
    const { r, front } = disks
    for (const gref of front.data.grefs) await front.exchange({ segments: [{ gref }] })
    failing.arm('unmap', 1)
    vi.advanceTimersByTime(180_000)
    expect(failing.calls.get('unmap')).toBe(4)
    vi.useRealTimers()
    await expectFailed(r, front, 'unmap')
    await end(disks)
  } finally {
    vi.useRealTimers()
  }
})

test("buffers that are no longer used can't be freed", async () => {
  const failing = new Failing()
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] })
  try {
    const disks = await twoDisks(failing, { dataPath: 'copy', store: memoryStore(1024) })
    await disks.front.exchange({})
    failing.arm('free', 0)
    vi.advanceTimersByTime(3_000)
    vi.useRealTimers()
    await expectFailed(disks.r, disks.front, 'free')
    await end(disks)
  } finally {
    vi.useRealTimers()
  }
})

const atTheEnd = ['free', 'closeCopies', 'unbind', 'unmap'] as const

test.each(atTheEnd)('%s fails when the disk closes: everything else is freed', async (call) => {
  const failing = new Failing()
  const disks = await twoDisks(failing, { dataPath: 'copy', store: memoryStore(1024) })
  const { r, front } = disks
  await front.exchange({}, { indirect_op: BLKIF_OP.READ })
  failing.arm(call, 0)
  await front.device.close()
  expect((await r.event(({ kind }) => kind === 'failed')).error).toEqual(refusal(call))
  await end(disks)
})
