// Serves a disk image from a web server. What guests write stays in memory here.
// On Xen, in dom0 or a driver domain:
//   npx tsx http-disk.ts https://example.org/disk.img
// Anywhere else, to a simulated guest:
//   npx xenkit sim --writes 100 http-disk.ts https://example.org/disk.img
import { type BlockStore, openHypervisor, overlayStore, serveVbd } from 'xenkit'

async function httpStore(url: string): Promise<BlockStore> {
  const head = await fetch(url, { method: 'HEAD' })
  return {
    sectors: Number(head.headers.get('content-length')) / 512,
    async read(sector, into) {
      const [from, length] = [sector * 512, into.reduce((sum, buffer) => sum + buffer.length, 0)]
      const answer = await fetch(url, { headers: { range: `bytes=${from}-${from + length - 1}` } })
      if (answer.status !== 206) throw new Error(`${url} answered ${answer.status} to a range`)
      const data = new Uint8Array(await answer.arrayBuffer())
      let at = 0
      for (const buffer of into) buffer.set(data.subarray(at, (at += buffer.length)))
      return { bytesRead: data.length }
    },
  }
}

const [url] = process.argv.slice(2)
if (url === undefined) throw new Error('usage: http-disk URL')

const base = await httpStore(url)
await using hv = await openHypervisor()
await serveVbd(hv, { store: () => overlayStore(base) })
