/**
 * serve DATAPATH [WORKERS [STORE]]: our backend as a user runs it, on the devices of devices.c; its
 * disks are images or, for the store `memory`, in memory with what those hold. Asked to `begin`, it
 * begins to count what is allocated on the heap; asked to `end`, it tells how many bytes that were.
 */
import { openFileStore, openHypervisor, openMemoryStore, serveVbd } from 'xenkit'
import { answerLines } from '../../src/answer-lines.ts'
import { HeapMeter } from '../../src/heap-meter.ts'

const [dataPath, workers = '0', store] = process.argv.slice(2)
if (dataPath !== 'copy' && dataPath !== 'persistent') {
  throw new RangeError(`no data path "${dataPath}"`)
}

await using hv = await openHypervisor({ adapter: 'xen' })
const served = serveVbd(hv, {
  store: ({ params }) => (store === 'memory' ? openMemoryStore(params) : openFileStore(params)),
  dataPath,
  workers: Number(workers),
  onEvent: ({ kind, error }) => {
    if (error !== undefined) console.error(kind, error)
  },
})
const meter = new HeapMeter()
await Promise.race([
  served,
  answerLines(async (request) => (request === 'begin' ? meter.begin() : meter.end())),
])
// The guest doesn't let go of its disks, and needn't be waited for.
process.exit()
