/** served-by-workers IMAGE MODE: a guest writes all of an image that two workers serve, discards and resizes; tells what was served, and how many descriptors the image has after. */
import { readdirSync, readlinkSync } from 'node:fs'
import { attachDisk, createMachine, openFileStore, openXenstore, plugVbd, serveVbd, type VbdStats } from 'xenkit'

const [image = '', mode = ''] = process.argv.slice(2)
const MIB = 2 ** 20
const machine = createMachine()
const [dom0, guest] = [machine.createDomain(), machine.createDomain()]
const store = await openFileStore(image, { direct: mode === 'direct' })
{
  using xs = await openXenstore(dom0.xenstore)
  await plugVbd(xs, { frontendDomid: guest.domid, backendDomid: dom0.domid, vdev: 'xvda', readOnly: false })
}
// What a user lays over a store is called, in the thread where it is.
let own = 0
const seen = { ...store, read: (sector: number, into: Uint8Array[]) => (own++, store.read(sector, into)) }
const stop = new AbortController()
let stats: VbdStats | undefined
const serving = serveVbd(dom0, { store: mode === 'wrapped' ? seen : store, workers: 2, dataPath: 'persistent', signal: stop.signal, onEvent: ({ disk }) => (stats = disk.stats) })
{
  await using disk = await attachDisk(guest, { vdev: 'xvda', queues: 4 })
  await Promise.all(Array.from({ length: 1024 }, (_, page) => disk.write(page * 8, [new Uint8Array(4096).fill(page)])))
  await disk.flush()
  await disk.discard?.(0, 8)
  const into = new Uint8Array(4 * MIB)
  await disk.read(0, [into])
  if (!into.every((byte, i) => byte === (i < 4096 ? 0 : (i >> 12) & 255))) throw new Error('what was read is not what was written')
  if (mode !== 'wrapped') {
    const resized = new Promise<void>((resolve) => disk.onResize?.(() => resolve()))
    await store.resize(4096)
    await resized
    await disk.write(4088, [new Uint8Array(4096).fill(1)])
  }
}
stop.abort()
await serving
// Waits for nobody: no worker uses it any more.
await store.close()
machine.assertQuiescent()
await machine.close()
const descriptors = readdirSync('/proc/self/fd').filter((fd) => leadsTo(fd) === image)
console.log(JSON.stringify({ stats, own, descriptors: descriptors.length }))

function leadsTo(fd: string): string | undefined {
  try {
    return readlinkSync(`/proc/self/fd/${fd}`)
  } catch {
    return undefined // that of the directory itself
  }
}
