/**
 * ours SEGMENTS: drains and answers full rings. Asked for a number of batches, it tells how many
 * nanoseconds a request took.
 */
import { answerLines } from '../../../src/answer-lines.ts'
import { RingBatches } from '../ring-batches.ts'

// Two rings: the filling alone leaves requests unanswered.
const [filled, served] = [
  new RingBatches(Number(process.argv[2])),
  new RingBatches(Number(process.argv[2])),
]

/** On the processor: what others take of it doesn't count. */
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
