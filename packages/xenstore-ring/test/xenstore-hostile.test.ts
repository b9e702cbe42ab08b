/**
 * The peer writes arbitrary values to the page at any time. Our end either serves as usual or ends
 * the connection once, with a reason. Each turn does bounded work, and a reset makes the page
 * usable again.
 */
import * as fc from 'fast-check'
import { RingProtocolError, XenstoreError } from '@xenkit/hypervisor'
import { XENSTORE_CONNECTED, XENSTORE_RECONNECT } from '@xenkit/wire'
import { assert, expect, test } from 'vitest'
import { serveXenstoreRing, connectXenstoreRing } from '@xenkit/xenstore-ring'
import { intercept, type Interceptor } from '../../ring/test/support/intercept.ts'
import { anyIndex } from '../../ring/test/support/ring-memory.ts'
import {
  FakeReceiver,
  FakeStore,
  offsetOf,
  Port,
  RING_FEATURES,
  settle,
  setWord,
  text,
  turnOfLoop,
  word,
  xenstorePage,
} from './support/xenstore-page.ts'

const anyWord = fc.constantFrom(
  ...(
    [
      'req_cons',
      'req_prod',
      'rsp_cons',
      'rsp_prod',
      'server_features',
      'connection',
      'error',
    ] as const
  ).map(offsetOf),
)
const write = fc.record({
  at: fc.oneof({ weight: 3, arbitrary: anyWord }, { weight: 1, arbitrary: fc.nat(4092) }),
  value: fc.oneof(fc.nat(2), fc.nat(1100), anyIndex),
})
type Write = { readonly at: number; readonly value: number }
const attacks = fc.array(fc.array(write, { maxLength: 3 }), { maxLength: 150, size: 'max' })
const steps = fc.array(
  fc.record({
    do: fc.constantFrom('send' as const, 'event' as const, 'turn' as const),
    length: fc.oneof(fc.nat(100), fc.nat(5000)),
  }),
  { maxLength: 40, size: 'max' },
)

function attacker(page: Uint8Array, writes: Iterator<Write[]>): Interceptor {
  const view = new DataView(page.buffer, page.byteOffset)
  const attack = (): void => {
    for (const { at, value } of writes.next().value ?? []) view.setUint32(at, value, true)
  }
  const around = <T>(access: () => T): T => {
    attack()
    const result = access()
    attack()
    return result
  }
  return {
    load: (words, index, load) => around(() => load(words, index)),
    store: (words, index, value, store) => around(() => store(words, index, value)),
  }
}

/**
 * Runs the steps of a hostile peer against one of our ends. `send` makes our end send bytes;
 * `received` returns how many bytes it has received.
 */
async function attack(o: {
  page: Uint8Array
  port: Port
  writes: readonly Write[][]
  steps: readonly { do: 'send' | 'event' | 'turn'; length: number }[]
  send: (bytes: Uint8Array) => void
  received: () => number
}): Promise<void> {
  const end = intercept(attacker(o.page, o.writes[Symbol.iterator]()))
  try {
    for (const step of o.steps) {
      const before = o.received()
      if (step.do === 'send') o.send(new Uint8Array(step.length))
      else if (step.do === 'turn') await turnOfLoop()
      else {
        o.port.pending = true
        o.port.deliver()
      }
      assert.isAtMost(o.received() - before, 2048) // from this step's turn and one before
    }
  } finally {
    end()
  }
}

test('a domain may write anything: xenstored serves it or not, and serves it after a reset', async () => {
  const property = fc.asyncProperty(anyIndex, attacks, steps, async (index, writes, sequence) => {
    const page = xenstorePage({ index })
    const [port] = Port.pair()
    const store = new FakeStore()
    const { connect } = store
    const server = serveXenstoreRing({ page, bind: port.bind, features: RING_FEATURES, connect })
    await attack({
      page,
      port,
      writes,
      steps: sequence,
      send: (bytes) => store.connections.at(-1)?.send(bytes),
      received: () => store.connections.reduce((sum, { received }) => sum + received.length, 0),
    })
    assert.isTrue(
      store.connections.slice(0, -1).every(({ closed }) => closed),
      'at most one connection to the store',
    )

    setWord(page, 'connection', XENSTORE_RECONNECT)
    port.pending = true
    await settle(port)
    assert.deepStrictEqual(
      [word(page, 'connection'), word(page, 'error'), word(page, 'rsp_prod')],
      [XENSTORE_CONNECTED, 0, 0],
    )
    page[0] = 0x41
    setWord(page, 'req_prod', 1)
    port.pending = true
    await settle(port)
    assert.strictEqual(text(store.last.received), 'A')
    store.last.send(Uint8Array.of(0x42))
    assert.deepStrictEqual([page[1024], word(page, 'rsp_prod')], [0x42, 1])
    server.close()
  })
  await expect(fc.assert(property, { numRuns: 200 })).resolves.toBeUndefined()
})

test('xenstored may write anything: a domain is served, or loses the connection once', async () => {
  const property = fc.asyncProperty(anyIndex, attacks, steps, async (index, writes, sequence) => {
    const page = xenstorePage({ index })
    const [port] = Port.pair()
    const receiver = new FakeReceiver()
    const stream = connectXenstoreRing({ page, bind: port.bind }, receiver)
    await attack({
      page,
      port,
      writes,
      steps: sequence,
      send: (bytes) => stream.write(bytes),
      received: () => receiver.received.length,
    })
    await settle(port)
    assert.isAtMost(receiver.reasons.length, 1)
    for (const reason of receiver.reasons) {
      assert.isTrue(
        reason instanceof RingProtocolError || reason instanceof XenstoreError,
        String(reason),
      )
    }
    assert.strictEqual(port.closed, receiver.reasons.length === 1)
    stream.close()
    assert.isTrue(port.closed)
  })
  await expect(fc.assert(property, { numRuns: 200 })).resolves.toBeUndefined()
})
