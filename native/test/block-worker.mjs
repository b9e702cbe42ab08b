// Has jobs in flight when it ends; how it ends is its `end` message.
import { openSync } from 'node:fs'
import { parentPort, workerData } from 'node:worker_threads'
import { loadNative } from '../index.js'

const { BlockEngine } = loadNative()
const JOBS = workerData.jobs ?? 1
const BYTES = 65_536
const memory = new Uint8Array(JOBS * BYTES)
const done = () => {
  if (workerData.end === 'exit in a callback') process.exit(0)
  if (workerData.end === 'throw in a callback') throw new Error('wanted')
}
const engine = new BlockEngine(memory, JOBS, JOBS, done, workerData.kind)
const table = engine.createTable()
const file = engine.open(openSync(workerData.path, workerData.flags ?? 'r+'))
for (let job = 0; job < JOBS; job++) {
  new Float64Array(table, 0)[job] = job * BYTES
  new Uint32Array(table, 16 * JOBS).set([file], job)
  new Uint32Array(table, 20 * JOBS).set([job], job)
  new Uint32Array(table, 24 * JOBS).set([1], job)
  new Uint32Array(table, 32 * JOBS).set([job], job)
  new Uint32Array(table, 40 * JOBS).set([job * BYTES], job)
  new Uint32Array(table, 44 * JOBS).set([BYTES], job)
  new Uint8Array(table, 48 * JOBS)[job] = workerData.operation ?? 0
}
parentPort.postMessage(engine.submit(JOBS))
if (workerData.end === 'exit') process.exit(0)
if (workerData.end === 'close') engine.close()
