// Serves a disk image without changing it: each guest has changes of its own, in memory, which end
// with this program.
// On Xen, in dom0 or a driver domain:
//   npx tsx overlay-disk.ts disk.img
// Anywhere else, to a simulated guest:
//   npx xenkit sim --writes 100 overlay-disk.ts disk.img
import { openFileStore, openHypervisor, overlayStore, serveVbd } from 'xenkit'

const [image] = process.argv.slice(2)
if (image === undefined) throw new Error('usage: overlay-disk IMAGE')

await using base = await openFileStore(image, { readOnly: true })
await using hv = await openHypervisor()
await serveVbd(hv, {
  // Called once for each disk. To keep changes, give the overlay a `top` that is a file, or
  // `commit()` it to a writable base.
  store: () => overlayStore(base),
})
