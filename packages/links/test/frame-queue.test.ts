/** `FrameQueue` against an array, for any order of calls. */
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { Checksum, Frames, Gso } from '@xenkit/frames'
import { FrameQueue } from '../src/frame-queue.ts'

const BYTES = 1024
const LONGEST = 500

test('a queue holds copies in order, within its memory', () => {
  let full = 0
  let crowded = 0
  fc.assert(
    fc.property(
      fc.array(
        fc.oneof(
          fc.record({ push: fc.integer({ min: 14, max: LONGEST }) }),
          fc.record({ push: fc.integer({ min: 14, max: 60 }) }),
          fc.record({ free: fc.nat(2) }),
        ),
        {
          minLength: 20,
          maxLength: 60,
        },
      ),
      (steps) => {
        const queue = new FrameQueue(BYTES)
        const model: number[][] = []
        let number = 0
        for (const step of steps) {
          if ('push' in step) {
            const frame = Array.from({ length: step.push }, () => number & 0xff)
            const frames = new Frames(1)
            frames.reset(Uint8Array.from(frame))
            frames.add({
              start: 0,
              length: frame.length,
              checksum: Checksum.BLANK,
              checksumStart: number,
              checksumOffset: 16,
              gso: Gso.TCPV6,
              gsoSize: number + 1,
              headers: 14,
            })
            const used = model.reduce((sum, { length }) => sum + length, 0)
            if (queue.push(frames, 0)) model.push(frame)
            else {
              if (model.length === 8) crowded++
              else full++
              // At the memory's end, as much may be unused as the longest frame has.
              expect(model.length === 8 || used + frame.length + LONGEST > BYTES).toBe(true)
            }
            frames.memory.fill(0xee)
            number++
          } else {
            const count = Math.min(step.free, queue.count)
            model.splice(0, count)
            queue.free(count)
          }
          expect(queue.count).toBe(model.length)
          const batch = new Frames(10)
          batch.reset(queue.memory)
          for (let i = 0; i < queue.count; i++) queue.addTo(batch, i)
          expect(model.map((_, i) => [...batch.bytes(i)])).toEqual(model)
          for (const [i, [first = 0]] of model.entries()) {
            expect(queue.lengthOf(i)).toBe(model[i]?.length)
            expect([batch.checksumStart[i], batch.gsoSize[i]]).toEqual([first, first + 1])
          }
        }
      },
    ),
    { numRuns: 200 },
  )
  expect(Math.min(full, crowded)).toBeGreaterThan(20)
})

test('a frame longer than the memory is refused', () => {
  const queue = new FrameQueue(100)
  const frames = new Frames(1)
  frames.reset(new Uint8Array(101))
  frames.add({ start: 0, length: 101 })
  expect(queue.push(frames, 0)).toBe(false)
  expect(new FrameQueue(0).push(frames, 0)).toBe(false)
})
