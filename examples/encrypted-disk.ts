// Serves a disk whose image holds only AES-256-XTS; the guest knows nothing of it.
//   head -c 64 /dev/urandom > disk.key; truncate -s 1G disk.img
// On Xen, in dom0 or a driver domain:
//   npx tsx encrypted-disk.ts disk.img disk.key
// Anywhere else, to a simulated guest:
//   npx xenkit sim --writes 100 encrypted-disk.ts disk.img disk.key
// Any Linux opens the image, as /dev/mapper/NAME:
//   cryptsetup open --type plain --cipher aes-xts-plain64 --key-size 512 \
//     --key-file disk.key disk.img NAME
import { readFile } from 'node:fs/promises'
import { encryptedStore, openFileStore, openHypervisor, serveVbd } from 'xenkit'

const [image, keyFile] = process.argv.slice(2)
if (image === undefined || keyFile === undefined) {
  throw new Error('usage: encrypted-disk IMAGE KEYFILE')
}

await using file = await openFileStore(image)
await using hv = await openHypervisor()
await serveVbd(hv, { store: encryptedStore(file, { key: await readFile(keyFile) }) })
