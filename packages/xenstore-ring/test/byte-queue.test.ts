import * as fc from 'fast-check'
import { assert, expect, test } from 'vitest'
import { ByteQueue } from '../src/byte-queue.ts'
import { ByteRingConsumer, ByteRingProducer, type ByteRingMemory } from '@xenkit/ring'

/** Returns bytes `from..to - 1` of a stream in which each byte depends on its position. */
const streamed = (from: number, to: number): Buffer =>
  Buffer.from(Array.from({ length: to - from }, (_, i) => (from + i) * 167))

test('pushed bytes leave in order, as the ring has room', () => {
  const step = fc.oneof(
    fc.record({ push: fc.oneof(fc.nat(100), fc.nat(9000)) }),
    fc.record({ take: fc.nat(4096) }),
  )
  const property = fc.property(fc.array(step, { maxLength: 150, size: 'max' }), (steps) => {
    const memory: ByteRingMemory = {
      name: 'in',
      data: new Uint8Array(4096),
      page: new Uint8Array(8),
      prod: 0,
      cons: 4,
    }
    const [producer, consumer] = [new ByteRingProducer(memory), new ByteRingConsumer(memory)]
    const queue = new ByteQueue()
    let [pushed, moved, taken] = [0, 0, 0]
    for (const one of steps) {
      if ('push' in one) queue.push(streamed(pushed, (pushed += one.push)))
      else {
        const room = 4096 - (moved - taken)
        assert.strictEqual(queue.moveTo(producer), Math.min(pushed - moved, room))
        moved += Math.min(pushed - moved, room)
        const into = Buffer.alloc(one.take)
        const count = consumer.read(into)
        assert.isTrue(into.subarray(0, count).equals(streamed(taken, taken + count)))
        taken += count
      }
      assert.strictEqual(queue.length, pushed - moved)
    }
  })
  expect(() => fc.assert(property, { numRuns: 40 })).not.toThrow()
})
