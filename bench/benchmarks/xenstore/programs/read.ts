/**
 * read SOCKET PATH DEPTH PID: reads a node through xenkit's client with DEPTH requests in flight.
 * Each line on standard input is a number of seconds. The answer is the number of reads per second,
 * and the share of that time for which the store, process PID, was busy.
 */
import { xenstoreSocket } from '@xenkit/xen'
import { openXenstore } from '@xenkit/xenstore-client'
import { answerLines } from '../../../src/answer-lines.ts'
import { busySeconds } from '../../../src/process-usage.ts'
import { rate } from '../../../src/rate.ts'

const [socket = '', path = '', depth, pid] = process.argv.slice(2)

using xs = await openXenstore(xenstoreSocket(socket))
await answerLines(async (seconds) => {
  const [begin, busyBefore] = [performance.now(), busySeconds(Number(pid))]
  const reads = await rate({ seconds: Number(seconds), depth: Number(depth) }, () => xs.read(path))
  const busy = ((busySeconds(Number(pid)) - busyBefore) * 1000) / (performance.now() - begin)
  return { rate: reads, busy }
})
