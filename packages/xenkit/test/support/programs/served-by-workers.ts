/**
 * served-by-workers IMAGE MODE: two workers serve an image to a guest, which writes all of it,
 * discards, and sees it resized. Prints the disk's counters, and how many descriptors the image
 * still has. In mode `memory`, the image is loaded, served from memory and written back; the
 * program prints whether that memory was freed.
 */
import { readdirSync, readlinkSync, writeFileSync } from 'node:fs'
import { openMemory } from '@xenkit/xen'
import {
  openVbd,
  createMachine,
  openFileStore,
  openMemoryStore,
  openXenstore,
  plugVbd,
  openWorkers,
  serveVbd,
  type BlockStore,
  type VbdStats,
} from 'xenkit'

const [image = '', mode = ''] = process.argv.slice(2)
const MIB = 2 ** 20
const machine = createMachine()
const [dom0, guest] = [machine.createDomain(), machine.createDomain()]
const store =
  mode === 'memory'
    ? await openMemoryStore(image)
    : await openFileStore(image, { direct: mode === 'direct' })
{
  using xs = await openXenstore(dom0.xenstore)
  await plugVbd(xs, {
    frontendDomid: guest.domid,
    backendDomid: dom0.domid,
    vdev: 'xvda',
    readOnly: false,
  })
}
// In mode `wrapped`, this store counts its reads. Workers can't run its function, so it is served
// by the thread that opened it.
let own = 0
const seen = {
  ...store,
  read: (sector: number, into: Uint8Array[]) => (own++, store.read(sector, into)),
}
const stop = new AbortController()
let stats: VbdStats | undefined
const workers = await openWorkers(dom0, { count: 2 })
const serving = serveVbd(dom0, {
  store: mode === 'wrapped' ? seen : store,
  workers,
  dataPath: 'persistent',
  signal: stop.signal,
  onEvent: ({ disk }) => (stats = disk.stats),
})
{
  await using disk = await openVbd(guest, { vdev: 'xvda', queues: 4 })
  await Promise.all(
    Array.from({ length: 1024 }, (_, page) =>
      disk.write(page * 8, [new Uint8Array(4096).fill(page)]),
    ),
  )
  await disk.flush()
  await disk.discard?.(0, 8)
  const into = new Uint8Array(4 * MIB)
  await disk.read(0, [into])
  if (!into.every((byte, i) => byte === (i < 4096 ? 0 : (i >> 12) & 255))) {
    throw new Error('what was read is not what was written')
  }
  if (mode !== 'wrapped') {
    const resized = new Promise<void>((resolve) => disk.onResize?.(() => resolve()))
    await store.resize(4096)
    await resized
    await disk.write(4088, [new Uint8Array(4096).fill(1)])
  }
}
stop.abort()
await serving
await workers[Symbol.asyncDispose]()
if (mode === 'memory') {
  const bytes = new Uint8Array(store.sectors * 512)
  await store.read(0, [bytes])
  writeFileSync(image, bytes)
}
const id = idOf(store)
// Resolves: no worker uses the store any more.
await store.close()
machine.assertQuiescent()
await machine.close()
const descriptors = readdirSync('/proc/self/fd').filter((fd) => leadsTo(fd) === image)
console.log(
  JSON.stringify({ stats, own, descriptors: descriptors.length, released: isReleased(id) }),
)

function leadsTo(fd: string): string | undefined {
  try {
    return readlinkSync(`/proc/self/fd/${fd}`)
  } catch {
    return undefined // the descriptor that lists /proc/self/fd has closed
  }
}

/** Returns the id of the store's memory; undefined if the store has none. */
function idOf(store: BlockStore): number | undefined {
  using shared = store.share?.()
  const data = shared?.data
  return typeof data === 'object' && data !== null && 'id' in data && typeof data.id === 'number'
    ? data.id
    : undefined
}

function isReleased(id: number | undefined): boolean | undefined {
  if (id === undefined) return undefined
  try {
    openMemory()?.({ id }).close()
    return false
  } catch {
    return true // no thread has the memory open
  }
}
