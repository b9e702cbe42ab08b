/** A link's frames on their way to a card's queues. */
import { Frames } from '@xenkit/frames'
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { HashConfig } from '../../src/backend/hash-config.ts'
import { NO_HASH } from '../../src/backend/rx-packets.ts'
import { MulticastFilter } from '../../src/backend/multicast-filter.ts'
import { pauseTogether, type RxQueueEnd, RxSpread } from '../../src/backend/rx-spread.ts'

const FRAME = 60

/** A batch of TCP packets, each with a number and with its flow's source port. */
function batch(flows: readonly number[], first = 0): Frames {
  const frames = new Frames(Math.max(1, flows.length))
  const memory = Buffer.alloc(flows.length * FRAME)
  for (const [i, flow] of flows.entries()) {
    const start = i * FRAME
    memory.set([0x08, 0, 0x45, 0, 0, 46, 0, 0, 0, 0, 64, 6], start + 12)
    memory.writeUInt16BE(flow, start + 34)
    memory[start + 46] = 0x50
    memory.writeUInt16BE(first + i, start + 54)
    frames.add({ start, length: FRAME })
  }
  frames.reset(memory)
  frames.count = flows.length
  return frames
}

interface Taken {
  readonly number: number
  readonly flow: number
  readonly hash: readonly [number, number] | undefined
}

/** A queue that keeps what it gets. */
class Queue implements RxQueueEnd {
  readonly taken: Taken[] = []
  readonly calls: number[] = []
  /** Called within `send`. */
  onSend = (): void => {}

  send(...[frames, hashes]: Parameters<RxQueueEnd['send']>): void {
    this.calls.push(frames.count)
    for (let i = 0; i < frames.count; i++) {
      const bytes = Buffer.from(frames.bytes(i))
      const hash = hashes && ([hashes.type[i] ?? 0, hashes.value[i] ?? 0] as const)
      this.taken.push({ number: bytes.readUInt16BE(54), flow: bytes.readUInt16BE(34), hash })
    }
    this.onSend()
  }
}

const queuesOf = (count: number): Queue[] => Array.from({ length: count }, () => new Queue())

test('each frame goes to one queue, a flow’s frames in order to the same one', () => {
  const flows = fc.array(fc.nat(20), { maxLength: 300 })
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 8 }), flows, fc.boolean(), (count, all, configured) => {
      const hash = new HashConfig(count)
      if (configured) {
        hash.setAlgorithm(1)
        hash.setTypes(15)
        hash.setKey(Uint8Array.from({ length: 40 }, (_, i) => 37 * i + 1))
      }
      const queues = queuesOf(count)
      new RxSpread(hash, new MulticastFilter(), queues).send(batch(all))
      const taken = queues.flatMap((queue) => queue.taken)
      expect(taken.map(({ number }) => number).toSorted((a, b) => a - b)).toEqual([...all.keys()])
      const queueOfFlow = new Map<number, Queue>()
      for (const queue of queues) {
        const numbers = queue.taken.map(({ number }) => number)
        expect(numbers).toEqual(numbers.toSorted((a, b) => a - b))
        for (const { flow, hash: got } of queue.taken) {
          expect(queueOfFlow.get(flow) ?? queue).toBe(queue)
          queueOfFlow.set(flow, queue)
          const isHashed = got !== undefined && got[0] !== NO_HASH
          expect(isHashed).toBe(configured)
          // Number 1 is the bit of IPV4_TCP.
          if (got && isHashed) expect([got[0], got[1] % count]).toEqual([1, queues.indexOf(queue)])
        }
      }
    }),
  )
})

test('a queue gets one call for a batch', () => {
  const queues = queuesOf(2)
  new RxSpread(new HashConfig(2), new MulticastFilter(), queues).send(batch([...Array(64).keys()]))
  expect(queues.map(({ calls }) => calls.length)).toEqual([1, 1])
})

test('a batch of any size arrives', () => {
  const queues = queuesOf(2)
  const spread = new RxSpread(new HashConfig(2), new MulticastFilter(), queues)
  spread.send(batch([...Array(1000).keys()]))
  expect(queues.flatMap(({ taken }) => taken)).toHaveLength(1000)
})

test('a link may send more before a queue returns', () => {
  const queues = queuesOf(2)
  const spread = new RxSpread(new HashConfig(2), new MulticastFilter(), queues)
  const flows = [...Array(32).keys()]
  spread.send(batch(flows))
  for (const queue of queues) {
    queue.taken.length = 0
    queue.onSend = () => {
      queue.onSend = () => {}
      spread.send(batch(flows, 100))
    }
  }
  spread.send(batch(flows))
  const numbers = queues.flatMap(({ taken }) => taken.map(({ number }) => number))
  const expected = [...flows, ...flows.map((i) => i + 100), ...flows.map((i) => i + 100)]
  expect(numbers.toSorted((a, b) => a - b)).toEqual(expected.toSorted((a, b) => a - b))
})

test('a link is paused from the first queue that asks for it to the last', () => {
  const calls: boolean[] = []
  const pause = pauseTogether({ pause: (paused) => void calls.push(paused) })
  for (const paused of [true, true, false, true, false]) pause(paused)
  expect(calls).toEqual([true])
  pause(false)
  expect(calls).toEqual([true, false])
  expect(() => pauseTogether({})(true)).not.toThrow()
})
