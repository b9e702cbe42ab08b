// Serves a disk image that stays as it is: each guest has its own changes, in memory, and they end
// with this program.
//   on Xen, in dom0 or a driver domain:   npx tsx overlay-disk.ts disk.img
//   anywhere else, to a simulated guest:  npx xenkit sim --writes 100 overlay-disk.ts disk.img
import { openFileStore, openHypervisor, overlayStore, serveVbd } from 'xenkit'

const [image] = process.argv.slice(2)
if (image === undefined) throw new Error('usage: overlay-disk IMAGE')

await using base = await openFileStore(image, { readOnly: true })
await using hv = await openHypervisor()
await serveVbd(hv, {
  // Asked once for each disk. To keep changes, give an overlay a `top` that is a file, or
  // `commit()` it to a base that can be written.
  store: () => overlayStore(base),
})
