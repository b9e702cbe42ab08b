/**
 * ours SEGMENTS: drains and answers full rings. Each line on standard input is a number of batches.
 * The answer is the time per request in nanoseconds.
 */
import { answerLines } from '../../../src/answer-lines.ts'
import { RingBatches } from '../ring-batches.ts'

// Two rings, because the requests on `filled` are never answered.
const [filled, served] = [
  new RingBatches(Number(process.argv[2])),
  new RingBatches(Number(process.argv[2])),
]

/**
 * Processor time that `work` takes in this process, in nanoseconds: time of other processes doesn't
 * count.
 */
const nanoseconds = (work: () => void): number => {
  const begin = process.cpuUsage()
  work()
  const { user, system } = process.cpuUsage(begin)
  return (user + system) * 1000
}

await answerLines(async (request) => {
  const batches = Number(request)
  const filling = nanoseconds(() => filled.fill(batches))
  return (nanoseconds(() => served.serve(batches)) - filling) / (batches * 32)
})
