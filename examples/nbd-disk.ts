// Serves what an NBD server exports: a qcow2 image, a Ceph RBD volume, anything that nbdkit or
// qemu-nbd can open.
//   qemu-nbd --persistent --shared=2 --socket=/run/disk.sock -f qcow2 disk.qcow2
// On Xen, in dom0 or a driver domain:
//   npx tsx nbd-disk.ts 'nbd+unix:///?socket=/run/disk.sock'
// Anywhere else, to a simulated guest:
//   npx xenkit sim nbd-disk.ts 'nbd+unix:///?socket=/run/disk.sock'
import { readFile } from 'node:fs/promises'
import { openHypervisor, openNbdStore, serveVbd } from 'xenkit'

const [uri, ca] = process.argv.slice(2)
if (uri === undefined) throw new Error('usage: nbd-disk URI [CA.pem]')

await using store = await openNbdStore(uri, {
  connections: 2,
  ...(ca !== undefined && { tls: { ca: await readFile(ca) } }), // for nbds://
  onEvent: (event) => console.error(event.kind, 'error' in event ? event.error.message : ''),
})
await using hv = await openHypervisor()
await serveVbd(hv, { store })
