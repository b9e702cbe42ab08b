/** Checks that real grants behave as the `GrantPort` interface promises. */
import { deepStrictEqual, strictEqual, throws } from 'node:assert'
import { GrantError, type Hypervisor, PAGE_SIZE } from '@xenkit/hypervisor'
import { loadNative } from '@xenkit/native'
import { check } from '../tap.ts'
import { openWire } from './wire.ts'

/** A grant reference that no check has allocated. */
const BAD_GREF = 60_000
const GNTST_BAD_GNTREF = -3

export async function checkGrants(hv: Hypervisor, where: string): Promise<void> {
  const { domid, grants } = hv
  const native = loadNative()
  const share = (pages: number, writable = true) => grants.share({ domid, pages, writable })
  const refs = (grefs: Iterable<number>) => Array.from(grefs, (gref) => ({ domid, gref }))

  await check(`${where}: what one side of a shared page writes, the other reads`, () => {
    using shared = share(1)
    using mapped = grants.map(refs(shared.grefs), { writable: true })
    shared.bytes.set([1, 2, 3], 100)
    deepStrictEqual([...mapped.bytes.subarray(100, 103)], [1, 2, 3])
    mapped.bytes.set([7, 8, 9], PAGE_SIZE - 3)
    deepStrictEqual([...shared.bytes.subarray(PAGE_SIZE - 3)], [7, 8, 9])
  })

  await check(`${where}: pages lie in the order of their references`, () => {
    using shared = share(16)
    const order = Array.from({ length: 16 }, (_, i) => (i * 7) % 16)
    for (let page = 0; page < 16; page++) shared.bytes[page * PAGE_SIZE] = page + 1
    using mapped = grants.map(refs(order.map((page) => shared.grefs[page] ?? 0)), {
      writable: false,
    })
    deepStrictEqual(
      order.map((_, i) => mapped.bytes[i * PAGE_SIZE]),
      order.map((page) => page + 1),
    )
  })

  await check(`${where}: one bad reference among good ones maps nothing`, () => {
    using shared = share(2)
    const before = native.counters().mappings
    throws(() => grants.map(refs([...shared.grefs, BAD_GREF]), { writable: true }), GrantError)
    strictEqual(native.counters().mappings, before)
  })

  await check(`${where}: a page granted for reading can't be mapped for writing`, () => {
    using shared = share(1, false)
    throws(() => grants.map(refs(shared.grefs), { writable: true }), GrantError)
    grants.map(refs(shared.grefs), { writable: false }).close()
  })

  await check(`${where}: copies go both ways, each with a status of its own`, () => {
    using shared = share(2)
    using batch = grants.openCopyBatch({ domid, capacity: 8 })
    using local = hv.arena.allocate(3)
    const [first = 0, second = 0] = shared.grefs
    shared.bytes.fill(0x11, 0, PAGE_SIZE)
    shared.bytes.fill(0x22, PAGE_SIZE)
    const set = (i: number, gref: number, offset: number, length: number, at: number): void => {
      batch.gref[i] = gref
      batch.offset[i] = offset
      batch.length[i] = length
      batch.local[i] = local.byteOffset + at
    }
    set(0, first, 0, PAGE_SIZE, 0)
    set(1, BAD_GREF, 0, 16, PAGE_SIZE)
    set(2, second, 4000, 96, 2 * PAGE_SIZE)
    strictEqual(batch.copyIn(3), 1)
    deepStrictEqual([...batch.status.subarray(0, 3)], [0, GNTST_BAD_GNTREF, 0])
    strictEqual(local.bytes[PAGE_SIZE - 1], 0x11)
    strictEqual(local.bytes[PAGE_SIZE], 0)
    strictEqual(local.bytes[2 * PAGE_SIZE + 95], 0x22)
    strictEqual(local.bytes[2 * PAGE_SIZE + 96], 0)

    local.bytes.fill(0x33, 0, 10)
    set(0, second, 5, 10, 0)
    strictEqual(batch.copyOut(1), 0)
    deepStrictEqual(
      [...shared.bytes.subarray(PAGE_SIZE + 4, PAGE_SIZE + 16)],
      [0x22, ...Array.from({ length: 10 }, () => 0x33), 0x22],
    )
  })

  await check(`${where}: a copy that is out of bounds copies nothing`, () => {
    using shared = share(1)
    using batch = grants.openCopyBatch({ domid, capacity: 2 })
    using local = hv.arena.allocate(1)
    shared.bytes.fill(0x44)
    batch.gref.fill(shared.grefs[0] ?? 0)
    batch.local.fill(local.byteOffset)
    batch.length.set([16, 4000])
    batch.offset.set([0, 200])
    throws(() => batch.copyIn(2), RangeError)
    strictEqual(local.bytes[0], 0)
  })

  await check(
    `${where}: when a mapping ends, its byte is cleared and its port notified`,
    async () => {
      using shared = share(1)
      using wire = await openWire(hv)
      const mapped = grants.map(refs(shared.grefs), { writable: true })
      shared.bytes.fill(1, 0, 3)
      mapped.notifyOnUnmap({ clearByte: 1, port: wire.client.binding.port })
      mapped.close()
      await wire.server.reaches(1)
      deepStrictEqual([...shared.bytes.subarray(0, 3)], [1, 0, 1])
    },
  )

  await check(`${where}: a view of an ended mapping reads 0`, () => {
    using shared = share(1)
    const mapped = grants.map(refs(shared.grefs), { writable: true })
    const view = mapped.bytes
    shared.bytes[0] = 0x66
    mapped.close()
    strictEqual(view[0], 0)
  })
}
