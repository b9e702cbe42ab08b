/**
 * Two ends of a xenstore ring, for any order of events, turns and transfers: every byte arrives,
 * and no end waits for an event while it has work. One end is ours. The other is ours too, or one
 * that notifies as rarely as Linux does.
 */
import * as fc from 'fast-check'
import { assert, describe, expect, test } from 'vitest'
import { type ByteRingMemory } from '@xenkit/ring'
import { serveXenstoreRing, connectXenstoreRing } from '@xenkit/xenstore-ring'
import { XenstorePage } from '../src/xenstore-page.ts'
import { intercept, type Interceptor } from '../../ring/test/support/intercept.ts'
import { anyIndex } from '../../ring/test/support/ring-memory.ts'
import {
  FakeReceiver,
  FakeStore,
  Port,
  RING_FEATURES,
  settle,
  turnOfLoop,
  xenstorePage,
} from './support/xenstore-page.ts'

/**
 * Returns bytes `from..to - 1` of a stream in which each byte depends on its position, so that a
 * lost, repeated or misplaced byte shows.
 */
const streamed = (from: number, to: number): Uint8Array =>
  Uint8Array.from({ length: to - from }, (_, i) => ((from + i) * 167 + ((from + i) >>> 8)) & 0xff)

/** Expects that exactly the first `count` bytes of the stream have arrived. */
function expectStreamed(received: readonly number[], count: number): void {
  const expected = streamed(0, count)
  assert.deepStrictEqual(
    { count: received.length, firstWrong: received.findIndex((byte, i) => byte !== expected[i]) },
    { count, firstWrong: -1 },
  )
}

const length = fc.oneof(fc.nat(40), fc.nat(1100), fc.constantFrom(1023, 1024, 1025, 4112))
type Step =
  | { readonly do: 'request' | 'reply'; readonly length: number }
  | { readonly do: 'deliver to domain' | 'deliver to store' | 'turn' }
const step: fc.Arbitrary<Step> = fc.oneof(
  fc.record({ do: fc.constantFrom('request' as const, 'reply' as const), length }),
  fc.record({
    do: fc.constantFrom('deliver to domain' as const, 'deliver to store' as const, 'turn' as const),
  }),
)
const steps = fc.array(step, { maxLength: 80, size: 'max' })

test('both ends: every byte arrives, once and in order', async () => {
  const property = fc.asyncProperty(
    anyIndex,
    fc.boolean(),
    steps,
    async (index, resets, sequence) => {
      const page = xenstorePage({ index })
      const [domainPort, storePort] = Port.pair()
      const store = new FakeStore()
      const features = resets ? RING_FEATURES : 0 // after a reset the indices start at 0
      serveXenstoreRing({ page, bind: storePort.bind, features, connect: store.connect })
      const receiver = new FakeReceiver()
      const stream = connectXenstoreRing({ page, bind: domainPort.bind }, receiver)
      stream.write(streamed(0, 1))
      await settle(domainPort, storePort)
      let [requested, replied] = [1, 0]
      for (const one of sequence) {
        if (one.do === 'request') stream.write(streamed(requested, (requested += one.length)))
        else if (one.do === 'reply') store.last.send(streamed(replied, (replied += one.length)))
        else if (one.do === 'turn') await turnOfLoop()
        else if (one.do === 'deliver to domain') domainPort.deliver()
        else storePort.deliver()
      }
      await settle(domainPort, storePort)
      expectStreamed(store.last.received, requested)
      expectStreamed(receiver.received, replied)
      assert.deepStrictEqual(receiver.reasons, [])
    },
  )
  await expect(fc.assert(property, { numRuns: 100 })).resolves.toBeUndefined()
})

/**
 * The other end, in another domain. It may act between any two accesses of our end. It notifies
 * only when it has put bytes into an empty ring or made room in a full one, as Linux does.
 */
class SparingPeer {
  readonly received: number[] = []
  sent = 0
  readonly #page: Uint8Array
  readonly #port: ReturnType<Port['bind']>
  readonly #reads: ByteRingMemory
  readonly #writes: ByteRingMemory
  /** False while the peer waits for the next event, like a sleeping thread. */
  #awake = true

  constructor(page: Uint8Array, port: Port, o: { reads: 'req' | 'rsp'; writes: 'req' | 'rsp' }) {
    this.#page = page
    this.#port = port.bind(() => {
      this.#awake = true
      this.#port.unmask()
    })
    this.#reads = new XenstorePage(page).ring(o.reads)
    this.#writes = new XenstorePage(page).ring(o.writes)
  }

  #load(at: number): number {
    return new DataView(this.#page.buffer, this.#page.byteOffset).getUint32(at, true)
  }

  #store(at: number, value: number): void {
    new DataView(this.#page.buffer, this.#page.byteOffset).setUint32(at, value, true)
  }

  /** Writes up to `max` bytes of its stream into the ring, as far as there is room. */
  write(max: number): void {
    const { data, prod, cons } = this.#writes
    const old = this.#load(prod)
    const count = Math.min(max, 1024 - ((old - this.#load(cons)) >>> 0))
    streamed(this.sent, this.sent + count).forEach((byte, i) => {
      data[(old + i) & 1023] = byte
    })
    this.sent += count
    this.#store(prod, (old + count) >>> 0)
    if (count > 0 && this.#load(cons) === old) this.#port.notify()
  }

  /** Reads up to `max` bytes if the peer is awake. An empty ring puts it to sleep. */
  read(max: number): void {
    if (!this.#awake) return
    const { data, prod, cons } = this.#reads
    const old = this.#load(cons)
    const count = Math.min(max, (this.#load(prod) - old) >>> 0)
    for (let i = 0; i < count; i++) this.received.push(data[(old + i) & 1023] ?? 0)
    this.#store(cons, (old + count) >>> 0)
    if (count === 0) this.#awake = false
    else if ((this.#load(prod) - old) >>> 0 >= 1024) this.#port.notify()
  }
}

/** What the peer does at each access of our end to an index, until the list is used up. */
const moves = fc.array(fc.record({ write: length, read: length, when: fc.nat(3) }), {
  maxLength: 200,
  size: 'max',
})
type Move = { readonly write: number; readonly read: number; readonly when: number }

function interleaved(peer: SparingPeer, todo: Iterator<Move>): Interceptor {
  const around = <T>(access: () => T): T => {
    const before = todo.next().value
    if (before && before.when > 0) peer.write(before.write)
    if (before && before.when > 1) peer.read(before.read)
    const result = access()
    const after = todo.next().value
    if (after && after.when > 0) peer.read(after.read)
    if (after && after.when > 1) peer.write(after.write)
    return result
  }
  return {
    load: (words, index, load) => around(() => load(words, index)),
    store: (words, index, value, store) => around(() => store(words, index, value)),
  }
}

describe('a peer that notifies only an end that may sleep', () => {
  test.each(['domain', 'store'] as const)('and our %s end exchange every byte', async (side) => {
    const property = fc.asyncProperty(
      anyIndex,
      fc.array(length, { maxLength: 20 }),
      moves,
      async (index, ours, theirs) => {
        const page = xenstorePage({ index })
        const [port, peerPort] = Port.pair()
        const receiver = new FakeReceiver()
        const store = new FakeStore()
        let write: (bytes: Uint8Array) => void
        let peer: SparingPeer
        if (side === 'domain') {
          peer = new SparingPeer(page, peerPort, { reads: 'req', writes: 'rsp' })
          const stream = connectXenstoreRing({ page, bind: port.bind }, receiver)
          await turnOfLoop()
          write = (bytes) => stream.write(bytes)
        } else {
          peer = new SparingPeer(page, peerPort, { reads: 'rsp', writes: 'req' })
          const { connect } = store
          serveXenstoreRing({ page, bind: port.bind, features: RING_FEATURES, connect })
          peer.write(1)
          await settle(port, peerPort)
          write = (bytes) => store.last.send(bytes)
        }
        let sent = 0
        const restore = intercept(interleaved(peer, theirs[Symbol.iterator]()))
        try {
          for (const count of ours) {
            write(streamed(sent, (sent += count)))
            port.deliver()
            await turnOfLoop()
          }
          await settle(port)
        } finally {
          restore()
        }
        // The peer continues as long as it is woken up or has read something.
        for (let before = -1; before < peer.received.length;) {
          before = peer.received.length
          peerPort.deliver()
          peer.read(4096)
          await settle(port)
        }
        expectStreamed(peer.received, sent)
        expectStreamed(side === 'domain' ? receiver.received : store.last.received, peer.sent)
        assert.deepStrictEqual(receiver.reasons, [])
      },
    )
    await expect(fc.assert(property, { numRuns: 100 })).resolves.toBeUndefined()
  })
})
