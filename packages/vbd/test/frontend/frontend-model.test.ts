/**
 * The disk of `openVbd` as a store, with any features of the backend: it behaves as the array of
 * bytes behind it.
 */
import type { Hypervisor } from '@xenkit/hypervisor'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { openVbd } from '../../src/index.ts'
import { recordingStore } from '../support/recording-store.ts'
import { rig } from '../support/rig.ts'
import { expectModelled, zeroed } from '../../../stores/test/support/model.ts'
import { WatchedHypervisor } from '../../../backend/test/support/watched-hypervisor.ts'

const SECTORS = 4096

const setups = fc.record({
  queues: fc.integer({ min: 1, max: 4 }),
  ringPageOrder: fc.nat(4),
  depth: fc.constantFrom(1, 5, 32, 512),
  abi: fc.constantFrom('x86_64' as const, 'x86_32' as const, 'arm' as const),
  dataPath: fc.constantFrom('copy' as const, 'map' as const, 'persistent' as const),
  sectorSize: fc.constantFrom(512 as const, 4096 as const),
  /** Features that the backend offers. */
  segments: fc.constantFrom(0, 11, 12, 100, 256),
})

test('reads, writes, discards and flushes of any size, several at a time', async () => {
  await fc.assert(
    fc.asyncProperty(setups, async ({ dataPath, sectorSize, segments, ...options }) => {
      const hv = new WatchedHypervisor()
      const store = recordingStore(SECTORS, { sectorSize })
      await using r = await rig({ store, dataPath, through: hv.through })
      await r.plug()
      await r.event(({ kind }) => kind === 'offered')
      await r.xs.write(
        `/local/domain/0/backend/vbd/${r.guest.domid}/51712/feature-max-indirect-segments`,
        String(segments),
      )
      {
        await using disk = await openVbd(r.guest, { vdev: 'xvda', ...options })
        expect(disk).toMatchObject({
          sectors: SECTORS,
          sectorSize,
          physicalSectorSize: sectorSize,
          readOnly: false,
          removable: false,
          cdrom: false,
        })
        const model = await expectModelled({ store: disk, discarded: zeroed, numRuns: 3 })
        expect(Buffer.compare(store.bytes, model)).toBe(0)
      }
      // The frontend closes after the backend has unmapped everything.
      expect(hv.pages).toBe(0)
    }),
    { numRuns: 12 },
  )
})

describe('requests', () => {
  test.each([
    [0, 24],
    [11, 24],
    [12, 22],
    [256, 1],
  ])('a backend that takes %i segments gets 1 MiB in %i requests', async (segments, requests) => {
    const store = recordingStore(SECTORS)
    await using r = await rig({ store })
    await r.plug()
    await r.event(({ kind }) => kind === 'offered')
    await r.xs.write(
      `/local/domain/0/backend/vbd/${r.guest.domid}/51712/feature-max-indirect-segments`,
      String(segments),
    )
    await using disk = await openVbd(r.guest, { vdev: 'xvda' })
    const data = Buffer.alloc(1 << 20, 'no page is like another: ')
    await disk.write(3, [data])
    expect(Buffer.compare(store.bytes.subarray(3 * 512, 3 * 512 + data.length), data)).toBe(0)
    const { disk: served } = await r.event(({ kind }) => kind === 'connected')
    expect(served.stats.writes).toBe(requests)
  })

  test('of 32 MiB at once reuse granted pages and stay within their limit', async () => {
    const store = recordingStore(65_536)
    await using r = await rig({ store, dataPath: 'persistent' })
    await r.plug()
    const granted = new Set<number>()
    const grants: typeof r.guest.grants = {
      map: (refs, o) => r.guest.grants.map(refs, o),
      mapPages: (refs, o) => r.guest.grants.mapPages(refs, o),
      openCopyBatch: (o) => r.guest.grants.openCopyBatch(o),
      share(o) {
        const share = r.guest.grants.share(o)
        for (const gref of share.grefs) granted.add(gref)
        return share
      },
    }
    const { domid, name, arena, loop, xenstore, evtchn } = r.guest
    const guest: Hypervisor = {
      domid,
      name,
      arena,
      loop,
      xenstore,
      evtchn,
      grants,
      close: () => r.guest.close(),
      [Symbol.asyncDispose]: () => r.guest.close(),
    }
    await using disk = await openVbd(guest, { vdev: 'xvda' })
    expect(granted.size).toBe(1)
    await disk.read(0, [new Uint8Array(512)])
    expect(granted.size).toBe(1 + 32)
    for (let round = 0; round < 2; round++) {
      await Promise.all(
        Array.from({ length: 32 }, (_, i) =>
          disk.write(i * 2048, [new Uint8Array(1 << 20).fill(i + round)]),
        ),
      )
      expect(granted.size).toBe(1 + 544)
    }
    expect(store.bytes.every((byte, i) => byte === Math.floor(i / (1 << 20)) + 1)).toBe(true)
  })
})
