// A worker that has jobs in flight when it ends. The message `end` says in which way it ends.
import { openSync } from 'node:fs'
import { parentPort, workerData } from 'node:worker_threads'
import { loadNative } from '../index.js'
import { newEngine } from './new-engine.mjs'
import { openTable } from './open-table.mjs'

const native = loadNative()
const { Arena } = native
const JOBS = workerData.jobs
const BYTES = 65_536
const memory = new Uint8Array(new Arena((JOBS * BYTES) / 4096).createBuffer())
const done = () => {
  if (workerData.end === 'exit in a callback') process.exit(0)
  if (workerData.end === 'throw in a callback') throw new Error('wanted')
}
const engine = newEngine(native, memory, done, workerData.kind)
const table = openTable(engine, JOBS, JOBS)
const numbers = Uint32Array.from({ length: JOBS }, (_, job) => job)
table.position.set(numbers.map((job) => job * BYTES))
table.file.fill(engine.open(openSync(workerData.path, workerData.flags)))
table.first.set(numbers)
table.count.fill(1)
table.list.set(numbers)
table.offset.set(numbers.map((job) => job * BYTES))
table.bytes.fill(BYTES)
table.operation.fill(workerData.operation)
const atOnce = engine.createSubmit()(table.number, JOBS)
if (workerData.proceeds) engine.proceed()
parentPort.postMessage(atOnce)
if (workerData.end === 'exit') process.exit(0)
if (workerData.end === 'close') engine.close()
