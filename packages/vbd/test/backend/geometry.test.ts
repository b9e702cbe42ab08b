/**
 * A disk's published geometry and features, how the toolstack's nodes change them, and changes of
 * size.
 */
import { BLKIF_OP, BLKIF_RSP, VDISK, XenbusState } from '@xenkit/wire'
import { NegotiationError } from '@xenkit/hypervisor'
import { plugDevice } from '@xenkit/xenbus'
import { describe, expect, test } from 'vitest'
import { recordingStore } from '../support/recording-store.ts'
import { RawFrontend } from '../support/raw-frontend.ts'
import { type Rig, rig } from '../support/rig.ts'

const { OKAY, ERROR } = BLKIF_RSP

async function published(r: Rig, front: RawFrontend): Promise<Record<string, string | undefined>> {
  await r.event(({ kind }) => kind === 'connected')
  const names = [
    'sectors',
    'sector-size',
    'physical-sector-size',
    'info',
    'feature-discard',
    'discard-granularity',
    'discard-alignment',
    'discard-secure',
    'feature-barrier',
    'feature-flush-cache',
    'feature-max-indirect-segments',
  ]
  return Object.fromEntries(
    await Promise.all(
      names.map(
        async (name) =>
          [name, await r.xs.readOptional(`${front.device.backendPath}/${name}`)] as const,
      ),
    ),
  )
}

/** Plugs a disk with additional nodes. */
const plug = (r: Rig, backend: Record<string, string>): Promise<void> =>
  plugDevice(r.xs, {
    type: 'vbd',
    frontendDomid: r.guest.domid,
    backendDomid: 0,
    devid: 51_712,
    frontend: { 'virtual-device': '51712' },
    backend: { mode: 'w', ...backend },
  })

test('a plain disk', async () => {
  const { sectors, read, write } = recordingStore(64)
  await using r = await rig({ store: { sectors, read, write: write ?? (() => {}) } })
  await r.plug()
  await using front = await RawFrontend.open(r.guest)
  expect(await published(r, front)).toEqual({
    sectors: '64',
    'sector-size': '512',
    'physical-sector-size': '512',
    info: '0',
    'feature-discard': undefined,
    'discard-granularity': undefined,
    'discard-alignment': undefined,
    'discard-secure': undefined,
    'feature-barrier': undefined,
    'feature-flush-cache': undefined,
    'feature-max-indirect-segments': '256',
  })
})

test('nodes of an earlier server for features that the disk lacks are removed', async () => {
  const { sectors, read } = recordingStore(64)
  await using r = await rig({ store: { sectors, read } })
  await plug(r, {
    'feature-barrier': '1',
    'feature-flush-cache': '0',
    'feature-discard': '1',
    'discard-granularity': '4096',
    'discard-secure': '1',
  })
  await using front = await RawFrontend.open(r.guest)
  expect(await published(r, front)).toMatchObject({
    sectors: '64',
    'feature-barrier': undefined,
    'feature-flush-cache': undefined,
    'feature-discard': undefined,
    'discard-granularity': undefined,
    'discard-secure': undefined,
  })
})

describe('discard', () => {
  const discardLimits = { granularity: 8192, alignment: 4096, secure: true }

  test('is described, and cut to whole granules unless it is secure', async () => {
    const store = recordingStore(1000, { discardLimits })
    await using r = await rig({ store })
    await r.plug()
    await using front = await RawFrontend.open(r.guest)
    expect(await published(r, front)).toMatchObject({
      'feature-discard': '1',
      'discard-granularity': '8192',
      'discard-alignment': '4096',
      'discard-secure': '1',
    })
    const discards = [
      [0n, 1000n, 0],
      [8n, 16n, 0],
      [7n, 18n, 0],
      [9n, 30n, 0],
      [9n, 30n, 1],
      [9n, 31n, 0],
      [990n, 10n, 0],
      [991n, 9n, 0],
    ] as const
    for (const [sector, nr_sectors, flag] of discards) {
      expect(
        await front.exchange({ operation: BLKIF_OP.DISCARD, sector, nr_sectors, flag }),
      ).toMatchObject([{ status: OKAY }])
    }
    expect(store.calls).toEqual([
      'discard 8+992',
      'discard 8+16',
      'discard 8+16',
      'discard 9+30 secure',
      'discard 24+16',
    ])
  })

  test('is not offered if the toolstack forbids it', async () => {
    await using r = await rig({ store: recordingStore(64) })
    await plug(r, { 'discard-enable': '0' })
    await using front = await RawFrontend.open(r.guest)
    const nodes = await published(r, front)
    expect(nodes).toMatchObject({ 'feature-discard': undefined, 'discard-granularity': undefined })
    expect(await front.exchange({ operation: BLKIF_OP.DISCARD })).toMatchObject([
      { status: BLKIF_RSP.EOPNOTSUPP },
    ])
  })

  test('of a read-only disk fails', async () => {
    const store = recordingStore(64)
    await using r = await rig({ store })
    await r.plug({ readOnly: true })
    await using front = await RawFrontend.open(r.guest)
    const nodes = await published(r, front)
    expect(nodes).toMatchObject({ 'feature-discard': undefined, info: String(VDISK.READONLY) })
    expect(await front.exchange({ operation: BLKIF_OP.DISCARD })).toMatchObject([{ status: ERROR }])
    expect(store.calls).toEqual([])
  })

  test('of 2 TiB is one request and one call', async () => {
    const { read, write, discard, calls } = recordingStore(64)
    const sectors = 2 ** 32 + 64
    await using r = await rig({
      store: { sectors, read, write: write ?? (() => {}), discard: discard ?? (() => {}) },
    })
    await r.plug()
    await using front = await RawFrontend.open(r.guest)
    expect(
      await front.exchange({
        operation: BLKIF_OP.DISCARD,
        sector: 32n,
        nr_sectors: 2n ** 32n + 32n,
      }),
    ).toMatchObject([{ status: OKAY }])
    expect(calls).toEqual([`discard 32+${2 ** 32 + 32}`])
    const { disk } = await r.event(({ kind }) => kind === 'connected')
    expect(disk.stats.bytesDiscarded).toBe((2 ** 32 + 32) * 512)
  })
})

describe("a disk of the toolstack's kind", () => {
  const kinds: readonly [string, Record<string, string>, number][] = [
    [
      'cdrom',
      { 'device-type': 'cdrom', removable: '1' },
      VDISK.CDROM | VDISK.REMOVABLE | VDISK.READONLY,
    ],
    ['removable', { removable: '1' }, VDISK.REMOVABLE],
    ['read-only', { mode: 'r' }, VDISK.READONLY],
  ]
  test.each(kinds)('%s', async (_, nodes, info) => {
    await using r = await rig({ store: recordingStore(64) })
    await plug(r, nodes)
    await using front = await RawFrontend.open(r.guest)
    expect((await published(r, front)).info).toBe(String(info))
    const writable = (info & VDISK.READONLY) === 0
    expect(await front.exchange({ operation: BLKIF_OP.WRITE })).toMatchObject([
      { status: writable ? OKAY : ERROR },
    ])
    const { disk } = await r.event(({ kind }) => kind === 'offered')
    expect(disk).toMatchObject({ readOnly: !writable, cdrom: (info & VDISK.CDROM) !== 0 })
  })
})

describe('sectors of 4096 bytes', () => {
  test('are published; numbers still count units of 512 bytes', async () => {
    const store = recordingStore(64, { sectorSize: 4096, physicalSectorSize: 8192 })
    await using r = await rig({ store })
    await r.plug()
    await using front = await RawFrontend.open(r.guest)
    expect(await published(r, front)).toMatchObject({
      sectors: '64',
      'sector-size': '4096',
      'physical-sector-size': '8192',
    })
    const statuses = async (
      ...requests: Parameters<typeof front.put>[0][]
    ): Promise<(number | undefined)[]> => {
      const answers = []
      for (const request of requests) answers.push(...(await front.exchange(request ?? {})))
      return answers.map(({ status }) => status)
    }
    const half = [{ first: 0, last: 3 }]
    expect(
      await statuses(
        { sector: 8n },
        { sector: 1n },
        { sector: 4n },
        { segments: half },
        { indirect_op: BLKIF_OP.WRITE, segments: [{}, ...half] },
        { operation: BLKIF_OP.DISCARD, sector: 8n, nr_sectors: 12n },
        { operation: BLKIF_OP.DISCARD, sector: 4n, nr_sectors: 8n },
        { operation: BLKIF_OP.DISCARD, sector: 8n },
      ),
    ).toEqual([OKAY, ERROR, ERROR, ERROR, ERROR, ERROR, ERROR, OKAY])
    expect(store.calls).toEqual(['read 8+8', 'discard 8+8'])
  })

  test('are refused to a frontend that may count in them', async () => {
    await using r = await rig({ store: recordingStore(64, { sectorSize: 4096 }) })
    await r.plug()
    await using front = await RawFrontend.open(r.guest, {
      nodes: { 'feature-large-sector-size': '1' },
    })
    const { error } = await r.event(({ kind }) => kind === 'failed')
    expect(error).toBeInstanceOf(NegotiationError)
    expect(error).toMatchObject({
      details: { node: `${front.device.path}/feature-large-sector-size` },
    })
    await front.device.backendClosing()
  })

  test('are the only ones that such a frontend is refused', async () => {
    await using r = await rig({ store: recordingStore(64, { physicalSectorSize: 4096 }) })
    await r.plug()
    await using front = await RawFrontend.open(r.guest, {
      nodes: { 'feature-large-sector-size': '1' },
    })
    expect(await published(r, front)).toMatchObject({
      'sector-size': '512',
      'physical-sector-size': '4096',
    })
    expect(await front.exchange({ sector: 1n, segments: [{ first: 1, last: 1 }] })).toMatchObject([
      { status: OKAY },
    ])
  })
})

describe('physical sectors', () => {
  const cases = [
    [2048, 4096, 4096],
    [2049, 4096, 512],
    [2052, 4096, 2048],
    [24, 2 ** 30, 4096],
  ] as const
  test.each(cases)('of %i sectors, %i bytes become %i', async (sectors, size, expected) => {
    await using r = await rig({ store: recordingStore(sectors, { physicalSectorSize: size }) })
    await r.plug()
    await using front = await RawFrontend.open(r.guest)
    expect(await published(r, front)).toMatchObject({ 'physical-sector-size': String(expected) })
  })

  test('follow a size that changes', async () => {
    const store = recordingStore(2048, { physicalSectorSize: 4096 })
    await using r = await rig({ store })
    await r.plug()
    await using front = await RawFrontend.open(r.guest)
    expect(await published(r, front)).toMatchObject({ 'physical-sector-size': '4096' })
    for (const [sectors, size] of [
      [2049, '512'],
      [2052, '2048'],
      [2056, '4096'],
    ] as const) {
      const { backendPath } = front.device
      store.resize(sectors)
      const node = await r.xs.wait(async (view) => {
        if ((await view.read(`${backendPath}/sectors`)) !== String(sectors)) return undefined
        return view.read(`${backendPath}/physical-sector-size`)
      })
      expect(node).toBe(size)
    }
  })
})

describe('an invalid store', () => {
  const { read } = recordingStore(64)
  const stores: readonly [string, object][] = [
    ['a sector size of 768', { sectorSize: 768 }],
    ['a sector size of 8192', { sectorSize: 8192 }],
    ['half a sector', { sectors: 60, sectorSize: 4096 }],
    ['physical sectors that are smaller', { sectorSize: 4096, physicalSectorSize: 512 }],
    ['physical sectors of no power of two', { physicalSectorSize: 1536 }],
    [
      'granules of half a sector',
      { discard() {}, discardLimits: { granularity: 256, alignment: 0, secure: false } },
    ],
    [
      'granules that begin within a sector',
      { discard() {}, discardLimits: { granularity: 4096, alignment: 100, secure: false } },
    ],
  ]
  test.each(stores)('%s: the disk is closed with the reason', async (_, wrong) => {
    await using r = await rig({ store: () => ({ sectors: 64, read, ...wrong }) })
    await r.plug()
    expect((await r.event(({ kind }) => kind === 'failed')).error).toBeInstanceOf(RangeError)
  })
})

describe('a size that changes', () => {
  /** Resolves when the guest sees a number of sectors, and was notified of it through the state. */
  const seen = async (r: Rig, front: RawFrontend, sectors: number): Promise<void> => {
    await r.xs.wait(async (view) =>
      (await view.read(`${front.device.backendPath}/sectors`)) === String(sectors)
        ? true
        : undefined,
    )
    expect(await r.xs.read(`${front.device.backendPath}/state`)).toBe(String(XenbusState.Connected))
  }

  test('is published while connected; requests beyond the new end fail', async () => {
    const store = recordingStore(1024)
    store.resize(64)
    await using r = await rig({ store })
    await r.plug()
    await using front = await RawFrontend.open(r.guest)
    await r.event(({ kind }) => kind === 'connected')
    expect(await front.exchange({ sector: 64n })).toMatchObject([{ status: ERROR }])
    const states: string[] = []
    const stop = new AbortController()
    const watching = (async () => {
      for await (const path of r.xs.watch(`${front.device.backendPath}/state`, {
        signal: stop.signal,
      })) {
        states.push(path)
      }
    })().catch(() => {})
    store.resize(1024)
    await seen(r, front, 1024)
    expect(await front.exchange({ sector: 64n })).toMatchObject([{ status: OKAY }])
    store.resize(32)
    expect(await front.exchange({ sector: 32n })).toMatchObject([{ status: ERROR }])
    await seen(r, front, 32)
    stop.abort()
    await watching
    // One event for the watch itself, then one for each change.
    expect(states.length).toBeGreaterThanOrEqual(2)
  })

  test('the last one of many changes counts', async () => {
    const store = recordingStore(1024)
    await using r = await rig({ store })
    await r.plug()
    await using front = await RawFrontend.open(r.guest)
    await r.event(({ kind }) => kind === 'connected')
    for (let sectors = 1; sectors <= 20; sectors++) store.resize(sectors * 8)
    await seen(r, front, 160)
    for (let i = 0; i < 50; i++) await r.xs.read(`${front.device.backendPath}/state`)
    expect(await r.xs.read(`${front.device.backendPath}/sectors`)).toBe('160')
  })

  test('fails a request that was checked before and starts after', async () => {
    const store = recordingStore(1024)
    await using r = await rig({ store })
    await r.plug()
    await using front = await RawFrontend.open(r.guest)
    store.hold()
    front.put({ id: 1n, operation: BLKIF_OP.WRITE_BARRIER })
    front.put({ id: 2n, operation: BLKIF_OP.WRITE, sector: 512n })
    front.send()
    await store.held(1)
    store.resize(512)
    store.letGo()
    expect((await front.responses(2)).map(({ id, status }) => [id, status])).toEqual([
      [1n, OKAY],
      [2n, ERROR],
    ])
    expect(store.calls).toEqual(['flush', 'write 0+8', 'flush'])
  })

  test('to an invalid one closes the disk', async () => {
    const store = recordingStore(1024)
    await using r = await rig({ store })
    await r.plug()
    await using front = await RawFrontend.open(r.guest)
    await r.event(({ kind }) => kind === 'connected')
    store.resize(0)
    expect((await r.event(({ kind }) => kind === 'failed')).error).toBeInstanceOf(RangeError)
    await front.device.backendClosing()
  })
})
