/**
 * ring: takes and answers as many full rings as it is asked to, and tells how many bytes that
 * allocated on the heap.
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
