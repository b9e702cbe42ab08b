/**
 * read SOCKET PATH DEPTH PID: reads a node through our client with DEPTH requests under way. Asked
 * for a number of seconds, it tells how many reads a second it did in these, and for how much of
 * the time the store, PID, was busy.
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
