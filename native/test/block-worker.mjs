// A worker that has jobs in flight when it ends. The message `end` says how it ends.
import { openSync } from 'node:fs'
import { parentPort, workerData } from 'node:worker_threads'
import { loadNative } from '../index.js'
import { newEngine } from './new-engine.mjs'

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
const number = engine.addTable(JOBS, JOBS)
const table = engine.createTable(number)
const file = engine.open(openSync(workerData.path, workerData.flags))
const numbers = Uint32Array.from({ length: JOBS }, (_, job) => job)
new Float64Array(table, 0, JOBS).set(numbers.map((job) => job * BYTES))
new Uint32Array(table, 16 * JOBS, JOBS).fill(file)
new Uint32Array(table, 20 * JOBS, JOBS).set(numbers)
new Uint32Array(table, 24 * JOBS, JOBS).fill(1)
new Uint32Array(table, 32 * JOBS, JOBS).set(numbers)
new Uint32Array(table, 36 * JOBS, JOBS).set(numbers.map((job) => job * BYTES))
new Uint32Array(table, 40 * JOBS, JOBS).fill(BYTES)
new Uint8Array(table, 44 * JOBS, JOBS).fill(workerData.operation)
const atOnce = engine.createSubmit()(number, JOBS)
if (workerData.proceeds) engine.proceed()
parentPort.postMessage(atOnce)
if (workerData.end === 'exit') process.exit(0)
if (workerData.end === 'close') engine.close()
