// A worker that opens one object of each kind and leaves it open. The message `end` says in which
// way the worker ends.
import { parentPort, workerData } from 'node:worker_threads'
import { loadNative } from '../index.js'

const native = loadNative()
const arena = new native.Arena(4096)
const bytes = new Uint8Array(arena.createBuffer())
const open = [
  new native.Gntdev(arena, workerData.quiet),
  new native.Evtchn(arena, workerData.busy, arena.allocate(2), () => {
    if (workerData.end === 'exit in a callback') process.exit(0)
    if (workerData.end === 'throw in a callback') throw new Error('wanted')
    if (workerData.end === 'terminate in a callback') for (;;) parentPort.postMessage('spinning')
  }),
  new native.XenbusDevice(arena, workerData.quiet, arena.allocate(1), () => {}),
]
// Kept reachable: a function keeps alive whatever its object keeps alive.
globalThis.functions = [
  open[0].createCopy(arena.allocate(1), 1, 0, true),
  open[1].createNotify(),
  open[1].createUnmask(),
]
arena.allocate(1)
bytes[0] = open.length
parentPort.postMessage('open')
if (workerData.end === 'exit') process.exit(0)
if (workerData.end === 'close') for (const one of open) one.close()
