/** An NBD store returns what was written to it, however often its connections are cut. */
import fc from 'fast-check'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { openNbdStore } from '../../src/index.ts'
import { type Behaviour, HANDSHAKE_BYTES, TestNbdServer } from './support/nbd-server.ts'
import { until } from '../../../backend/test/support/until.ts'

let server: TestNbdServer
beforeEach(async () => {
  server = await TestNbdServer.listen(64)
})
afterEach(() => server.stop())

const operation = fc.record({
  kind: fc.constantFrom('read', 'write', 'discard', 'flush'),
  at: fc.nat(15),
  fill: fc.integer({ min: 1, max: 255 }),
})
const cut: fc.Arbitrary<Behaviour> = fc.oneof(
  fc.nat(4000).map((bytes) => ({ cutAfterSending: HANDSHAKE_BYTES + bytes })),
  fc.nat(6000).map((bytes) => ({ cutAfterReceiving: HANDSHAKE_BYTES + bytes })),
)

/**
 * Runs operations on places of 4 sectors, each round's operations concurrently, and compares the
 * results with an array.
 */
async function expectModel(
  rounds: readonly (readonly { kind: string; at: number; fill: number }[])[],
  connections: number,
): Promise<void> {
  server.bytes.fill(0)
  const model = new Uint8Array(server.bytes.length)
  const store = await openNbdStore(server.uri, { connections })
  for (const round of rounds) {
    // A guest doesn't run operations on the same place concurrently: keep the first of each place.
    const own = round.filter(({ at }, i) => round.findIndex((other) => other.at === at) === i)
    await Promise.all(
      own.map(async ({ kind, at, fill }) => {
        const place = model.subarray(at * 2048, at * 2048 + 2048)
        if (kind === 'flush') return store.flush?.()
        if (kind === 'discard') {
          place.fill(0)
          return store.discard?.(at * 4, 4, { secure: false })
        }
        if (kind === 'write') {
          place.fill(fill)
          return store.write?.(at * 4, [
            new Uint8Array(1000).fill(fill),
            new Uint8Array(1048).fill(fill),
          ])
        }
        const got = [new Uint8Array(100), new Uint8Array(1948)]
        await store.read(at * 4, got)
        expect(Buffer.compare(Buffer.concat(got), place)).toBe(0)
      }),
    )
  }
  await store.close()
  await until(() => server.openConnections === 0)
  expect(Buffer.compare(server.bytes, model)).toBe(0)
}

// After each cut of one connection the store waits longer: more cuts would only take more time.
test.each([1, 3])('%i connections, cut at any byte of either direction', async (connections) => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.array(operation, { maxLength: 12 }), { maxLength: 5 }),
      fc.array(cut, { maxLength: 1 + connections }),
      async (rounds, cuts) => {
        const first = server.connections
        server.behaviour = (connection) => cuts[connection - first] ?? {}
        await expectModel(rounds, connections)
      },
    ),
    { numRuns: 100 },
  )
})
