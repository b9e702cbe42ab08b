// Serves a disk image from two threads, over which the queues of a guest are spread: blkfront has
// up to 4.
// On Xen, in dom0 or a driver domain:
//   npx tsx workers-disk.ts disk.img
// Anywhere else, to a simulated guest:
//   npx xenkit sim --writes 100 workers-disk.ts disk.img
import { openFileStore, openHypervisor, openWorkers, serveVbd } from 'xenkit'

const [image] = process.argv.slice(2)
if (image === undefined) throw new Error('usage: workers-disk IMAGE')

await using store = await openFileStore(image)
await using hv = await openHypervisor()
await using workers = await openWorkers(hv, { count: 2 })
await serveVbd(hv, { store, workers })
