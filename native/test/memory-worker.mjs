// A worker that uses another thread's memory image, with its own engine. The message `end` says in
// which way it ends.
import { parentPort, workerData } from 'node:worker_threads'
import { loadNative } from '../index.js'
import { openTable } from './open-table.mjs'

const { BlockEngine, MemoryImage } = loadNative()
const image = MemoryImage.open(workerData.id)
// An image of the worker's own that the worker never closes: the end of the thread has to close it.
globalThis.own = new MemoryImage(4096)
const memory = new Uint8Array(4096)
const engine = new BlockEngine(memory, () => {})
const table = openTable(engine)
const submit = engine.createSubmit()
table.file[0] = engine.openMemory(image)
table.count[0] = 1
const run = (operation, position, bytes) => {
  table.position[0] = position
  table.bytes[0] = table.length[0] = bytes
  table.operation[0] = operation
  if (submit(table.number, 1) !== 1) throw new Error('a job was not done at once')
  return table.result[0]
}

if (workerData.end === 'storm') {
  const { fill } = workerData
  const moved = { whole: 0, short: 0, strange: 0 }
  for (let i = 0; i < 20_000 || moved.short === 0 || moved.whole === 0; i++) {
    memory.fill(fill)
    const position = (i * 4096 * 13) % (1 << 21)
    const written = run(1, position, 4096)
    run(0, position, 4096)
    moved[written === 4096 ? 'whole' : 'short']++
    if (memory.some((byte) => byte > 2)) moved.strange++
    if (i % 64 === 0) run(3, position, 8192)
  }
  parentPort.postMessage(moved)
} else {
  run(0, 9, 9)
  const seen = Buffer.from(memory.subarray(0, 9)).toString()
  memory.set(Buffer.from('from there'))
  run(1, 4096, 10)
  parentPort.postMessage(seen)
  if (workerData.end === 'exit') process.exit(0)
  if (workerData.end === 'terminate') setInterval(() => {}, 1000)
}
if (workerData.end === 'close' || workerData.end === 'storm') {
  engine.close()
  image.close()
}
