/**
 * transact SOCKET DEPTH: runs DEPTH transactions concurrently through xenkit's client. Each
 * transaction adds one to a counter; concurrent transactions have different counters. Each line on
 * standard input is a number of seconds. The answer is the number of transactions per second.
 */
import { strictEqual } from 'node:assert'
import { xenstoreSocket } from '@xenkit/xen'
import { openXenstore } from '@xenkit/xenstore-client'
import { answerLines } from '../../../src/answer-lines.ts'
import { rate } from '../../../src/rate.ts'

const [socket = '', depth] = process.argv.slice(2)

using xs = await openXenstore(xenstoreSocket(socket))
await answerLines(async (seconds) => {
  const counts = Array.from({ length: Number(depth) }, () => 0)
  const counter = (lane: number): string => `/bench/counters/${depth}/${lane}`
  await Promise.all(counts.map((count, lane) => xs.write(counter(lane), String(count))))
  const transactions = await rate(
    { seconds: Number(seconds), depth: counts.length },
    async (lane) => {
      await xs.transaction(async (view) => {
        await view.write(counter(lane), String(Number(await view.read(counter(lane))) + 1))
      })
      counts[lane] = (counts[lane] ?? 0) + 1
    },
  )
  for (const [lane, count] of counts.entries()) {
    strictEqual(Number(await xs.read(counter(lane))), count, `counter ${lane}`)
  }
  return { rate: transactions }
})
