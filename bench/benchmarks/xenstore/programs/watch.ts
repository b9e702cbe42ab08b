/**
 * watch SOCKET PID: 10,000 watches on one connection of our client. Asked for `SECONDS RATE`, it has them fire so
 * many times a second, in turn, and tells how often they did and how the memory of this process and of the store,
 * PID, went meanwhile.
 */
import { strictEqual } from 'node:assert'
import { setTimeout as sleep } from 'node:timers/promises'
import { xenstoreSocket } from '@xenkit/xen'
import { openXenstore } from '@xenkit/xenstore-client'
import { answerLines } from '../../../src/answer-lines.ts'
import { residentBytes } from '../../../src/process-usage.ts'

const WATCHES = 10_000
const TICK_MS = 10
const SAMPLE_MS = 500
/** Some ten times what anything takes. */
const PATIENCE_MS = 20_000

const [socket = '', pid] = process.argv.slice(2)
const { gc } = globalThis
if (!gc) throw new Error('this needs --expose-gc')

using watcher = await openXenstore(xenstoreSocket(socket))
using writer = await openXenstore(xenstoreSocket(socket))
let written = 0
let heard = 0
let onHeard = (): void => {}

const node = (index: number): string => `/bench/watched/${index}`

async function hear(paths: AsyncIterable<string>): Promise<void> {
  for await (const _ of paths) {
    heard++
    onHeard()
  }
}

function allHeard(): Promise<void> {
  return new Promise((resolve, reject) => {
    const late = setTimeout(() => reject(new Error(`${heard} events came of ${written}`)), PATIENCE_MS)
    onHeard = () => {
      if (heard < written) return
      clearTimeout(late)
      resolve()
    }
    onHeard()
  })
}

/** Each is one event: of the node's own watch. */
async function writeUntil(count: number): Promise<void> {
  const writes: Promise<void>[] = []
  for (; written < count; written++) writes.push(writer.write(node(written % WATCHES), String(written)))
  await Promise.all(writes)
}

await writeUntil(WATCHES)
for (let index = 0; index < WATCHES; index++) void hear(watcher.watch(node(index)))
await allHeard() // each watch fires when it is set

await answerLines(async (request) => {
  const [seconds = 0, rate = 0] = request.split(' ').map(Number)
  const [begin, first] = [performance.now(), heard]
  const samples = []
  for (let elapsed = 0; elapsed < seconds * 1000; elapsed = performance.now() - begin) {
    await writeUntil(first + Math.floor((elapsed * rate) / 1000))
    if (elapsed >= samples.length * SAMPLE_MS) {
      gc()
      samples.push({ events: heard, heap: process.memoryUsage().heapUsed, resident: residentBytes(process.pid), storeResident: residentBytes(Number(pid)) })
    }
    await sleep(TICK_MS)
  }
  await allHeard()
  strictEqual(heard, written, 'events, one per write')
  return { rate: ((heard - first) * 1000) / (performance.now() - begin), samples }
})
