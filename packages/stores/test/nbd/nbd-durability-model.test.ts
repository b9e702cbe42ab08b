/**
 * Servers are killed and connections lost at random. A successful flush must have made all earlier
 * answered writes durable, and a read must return the last answered write.
 */
import { NBD_CMD } from '../../src/nbd/protocol.ts'
import fc from 'fast-check'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { type NbdStore, openNbdStore } from '../../src/index.ts'
import { TestNbdServer } from './support/nbd-server.ts'

const SECTORS = 24

interface Operation {
  readonly kind: 'read' | 'write' | 'discard' | 'flush'
  readonly at: number
  readonly count: number
}

interface Fault {
  readonly round: number
  /** Turns of the event loop before the fault happens. */
  readonly after: number
  /**
   * Whether the server restarts and loses unflushed sectors, except those in `writtenBack`.
   * Otherwise connections are lost only.
   */
  readonly kill: boolean
  readonly writtenBack: readonly boolean[]
  /** Which connections are closed immediately, the newest first; the pattern repeats. */
  readonly cut: readonly boolean[]
  /**
   * Turns of the event loop after which a killed server's other connections, silent so far, close.
   */
  readonly lingering: number
}

const operation: fc.Arbitrary<Operation> = fc.record({
  kind: fc.constantFrom('read', 'write', 'write', 'discard', 'flush'),
  at: fc.nat(SECTORS - 1),
  count: fc.integer({ min: 1, max: 6 }),
})
const fault: fc.Arbitrary<Fault> = fc.record({
  round: fc.nat(5),
  after: fc.nat(12),
  kill: fc.boolean(),
  writtenBack: fc.array(fc.boolean(), { minLength: SECTORS, maxLength: SECTORS }),
  cut: fc.array(fc.boolean(), { minLength: 1, maxLength: 3 }),
  lingering: fc.nat(60),
})

const turns = async (count: number): Promise<void> => {
  for (let i = 0; i < count; i++) await new Promise((resolve) => setImmediate(resolve))
}

let server: TestNbdServer
let life = 0
beforeEach(async () => {
  server = await TestNbdServer.listen(SECTORS)
})
afterEach(() => server.stop())

/**
 * The server executes each request immediately and answers it after a delay. It ignores connections
 * that were opened before its last restart, as a killed server would.
 */
function behave(delays: readonly number[]): void {
  let requests = 0
  server.behaviour = () => {
    const born = life
    return {
      async onRequest({ type }, answer, socket) {
        if (born !== life) return
        const bytes = answer()
        await turns(type === NBD_CMD.FLUSH ? 1 : (delays[requests++ % delays.length] ?? 0))
        if (born === life && !socket.destroyed) socket.write(bytes)
      },
    }
  }
}

async function inflict({ after, kill, writtenBack, cut, lingering }: Fault): Promise<void> {
  await turns(after)
  const { connections } = server
  if (kill) {
    life++
    server.forget((sector) => writtenBack[sector] ?? false)
  }
  for (let connection = 0; connection < connections; connection++) {
    if (cut[(connections - 1 - connection) % cut.length]) server.cut(connection)
  }
  if (!kill) return
  await turns(lingering)
  for (let connection = 0; connection < connections; connection++) server.cut(connection)
}

class Model {
  readonly #store: NbdStore
  /**
   * The values that each sector was filled with, in order; `#answered` has the index of the value
   * that was answered last.
   */
  readonly #fills = Array.from({ length: SECTORS }, () => [0])
  readonly #answered = Array.from({ length: SECTORS }, () => 0)
  #lastFill = 0

  constructor(store: NbdStore) {
    this.#store = store
  }

  async run({ kind, at, count }: Operation): Promise<void> {
    const end = Math.min(SECTORS, at + count)
    if (kind === 'flush') return this.flush()
    if (kind === 'read') return this.#read(at, end)
    const fill = kind === 'write' ? ++this.#lastFill : 0
    for (let sector = at; sector < end; sector++) this.#fills[sector]?.push(fill)
    if (kind === 'write') {
      await this.#store.write?.(at, [new Uint8Array((end - at) * 512).fill(fill)])
    } else await this.#store.discard?.(at, end - at, { secure: false })
    for (let sector = at; sector < end; sector++) {
      this.#answered[sector] = (this.#fills[sector]?.length ?? 0) - 1
    }
  }

  async flush(): Promise<void> {
    const before = [...this.#answered]
    await this.#store.flush?.()
    for (const [sector, fills] of this.#fills.entries()) {
      expect(fills.slice(before[sector]), `sector ${sector} after a flush`).toContain(
        server.durable[sector * 512],
      )
    }
  }

  async #read(at: number, end: number): Promise<void> {
    const got = new Uint8Array((end - at) * 512)
    await this.#store.read(at, [got])
    for (let sector = at; sector < end; sector++) {
      const start = (sector - at) * 512
      const expected = this.#fills[sector]?.at(-1)
      expect([got[start], got[start + 511]], `sector ${sector}`).toEqual([expected, expected])
    }
  }
}

/**
 * Keeps operations whose sectors don't overlap: a guest doesn't send overlapping ones concurrently.
 */
function independent(round: readonly Operation[]): readonly Operation[] {
  const taken = new Set<number>()
  return round.filter(({ kind, at, count }) => {
    const own = Array.from({ length: kind === 'flush' ? 0 : count }, (_, i) => at + i)
    if (own.some((sector) => taken.has(sector))) return false
    for (const sector of own) taken.add(sector)
    return true
  })
}

async function expectDurable(
  store: NbdStore,
  rounds: readonly (readonly Operation[])[],
  faults: readonly Fault[],
): Promise<void> {
  const model = new Model(store)
  for (const [round, operations] of rounds.entries()) {
    const due = faults.filter((each) => each.round === round).map(inflict)
    await Promise.all([...independent(operations).map((each) => model.run(each)), ...due])
  }
  await model.flush()
  await model.run({ kind: 'read', at: 0, count: SECTORS })
}

test.each([1, 3])('%i connections', async (connections) => {
  const rounds = fc.array(fc.array(operation, { minLength: 1, maxLength: 10 }), {
    minLength: 1,
    maxLength: 6,
  })
  await fc.assert(
    fc.asyncProperty(
      rounds,
      fc.array(fault, { maxLength: 3 }),
      fc.array(fc.nat(8), { minLength: 1 }),
      async (operations, faults, delays) => {
        life++
        server.bytes.fill(0)
        server.durable.fill(0)
        behave(delays)
        await using store = await openNbdStore(server.uri, { connections })
        await expectDurable(store, operations, faults)
      },
    ),
    { numRuns: 60 },
  )
})
