// Serves a disk image to a guest.
// On Xen, in dom0 or a driver domain:
//   npx tsx file-disk.ts disk.img
// Anywhere else, to a simulated guest:
//   npx xenkit sim file-disk.ts disk.img
import { open } from 'node:fs/promises'
import { openHypervisor, serveVbd } from 'xenkit'

const [image] = process.argv.slice(2)
if (image === undefined) throw new Error('usage: file-disk IMAGE')

await using file = await open(image, 'r+')
await using hv = await openHypervisor()
await serveVbd(hv, {
  store: {
    sectors: (await file.stat()).size / 512,
    read: (sector, into) => file.readv(into, sector * 512),
    write: (sector, from) => file.writev(from, sector * 512),
    flush: () => file.datasync(),
  },
})
