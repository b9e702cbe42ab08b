/**
 * watch SOCKET: 10,000 watches on one connection of xenkit's client. Each line on standard input is
 * `EVENTS RATE`: the watches fire one after the other, EVENTS times in all, RATE times a second.
 * The answer is the rate reached, and samples of the memory in use.
 */
import { strictEqual } from 'node:assert'
import { setTimeout as sleep } from 'node:timers/promises'
import { xenstoreSocket } from '@xenkit/xen'
import { openXenstore } from '@xenkit/xenstore-client'
import { answerLines } from '../../../src/answer-lines.ts'
import { residentBytes } from '../../../src/process-usage.ts'

const WATCHES = 10_000
const TICK_MS = 10
/**
 * Most writes in one burst. In a longer one, two writes could be to the same node and merge into
 * one event.
 */
const BURST_MAX = 1000
const SAMPLE_EVENTS = 500
/** Timeout for any step: some ten times longer than the step should take. */
const PATIENCE_MS = 60_000

const [socket = ''] = process.argv.slice(2)
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
    const late = setTimeout(
      () => reject(new Error(`${heard} events came of ${written}`)),
      PATIENCE_MS,
    )
    onHeard = () => {
      if (heard < written) return
      clearTimeout(late)
      resolve()
    }
    onHeard()
  })
}

/**
 * Writes nodes until `count` writes were made. Each write causes one event, on the node's own
 * watch.
 */
async function writeUntil(count: number): Promise<void> {
  const writes: Promise<void>[] = []
  for (; written < count; written++) {
    writes.push(writer.write(node(written % WATCHES), String(written).padStart(8)))
  }
  await Promise.all(writes)
}

await writeUntil(WATCHES)
for (let index = 0; index < WATCHES; index++) void hear(watcher.watch(node(index)))
await allHeard() // a watch also fires once when it is set

await answerLines(async (request) => {
  const [events = 0, rate = 0] = request.split(' ').map(Number)
  const [begin, first] = [performance.now(), written]
  const samples = []
  while (written < first + events) {
    const due = first + Math.min(events, ((performance.now() - begin) * rate) / 1000)
    await writeUntil(Math.min(due, written + BURST_MAX))
    if (written >= first + samples.length * SAMPLE_EVENTS) {
      await allHeard()
      gc()
      samples.push({
        events: heard,
        heap: process.memoryUsage().heapUsed,
        resident: residentBytes(process.pid),
      })
    }
    await sleep(TICK_MS)
  }
  await allHeard()
  strictEqual(heard, written, 'events, one per write')
  return { rate: (events * 1000) / (performance.now() - begin), samples }
})
