/**
 * ring: takes and answers full rings. Each line on standard input is a number of rings. The answer
 * is the number of bytes allocated on the heap.
 */
import { answerLines } from '../../../src/answer-lines.ts'
import { HeapMeter } from '../../../src/heap-meter.ts'
import { RingBatches } from '../../codec/ring-batches.ts'

const batches = new RingBatches(1)
const meter = new HeapMeter()
await answerLines(async (request) => {
  meter.begin()
  batches.serve(Number(request))
  return meter.end()
})
