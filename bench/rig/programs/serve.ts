/**
 * serve DATAPATH [WORKERS [STORE]]: xenkit's backend as a user runs it, on the devices that
 * devices.c simulates. Its disks are image files; with the store `memory` they are loaded into
 * memory. The line `begin` starts to count the bytes allocated on the heap, and the answer to `end`
 * is that count.
 */
import { openFileStore, openHypervisor, openMemoryStore, openWorkers, serveVbd } from 'xenkit'
import { answerLines } from '../../src/answer-lines.ts'
import { HeapMeter } from '../../src/heap-meter.ts'

const [dataPath, count = '0', store] = process.argv.slice(2)
if (dataPath !== 'copy' && dataPath !== 'persistent') {
  throw new RangeError(`no data path "${dataPath}"`)
}

await using hv = await openHypervisor({ adapter: 'xen' })
const workers = await openWorkers(hv, { count: Number(count) })
const served = serveVbd(hv, {
  store: ({ params }) => (store === 'memory' ? openMemoryStore(params) : openFileStore(params)),
  dataPath,
  workers,
  onEvent: ({ kind, error }) => {
    if (error !== undefined) console.error(kind, error)
  },
})
const meter = new HeapMeter()
await Promise.race([
  served,
  answerLines(async (request) => (request === 'begin' ? meter.begin() : meter.end())),
])
// Exit without waiting for the disks to close, because the guest keeps them connected.
process.exit()
