/**
 * A xenstore page used by C code over the struct of Xen's own xs_wire.h on one side, and by ours on
 * the other. The first test runs one sequence of transfers on three pages at once: C on both sides,
 * C domain with our xenstored, our domain with C xenstored. After each transfer the pages are equal
 * byte by byte. The second test runs our complete ends, with turns and resets, against C.
 */
import {
  closeSync,
  mkdtempSync,
  openSync,
  readSync,
  rmSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import * as fc from 'fast-check'
import type { ByteStream } from '@xenkit/hypervisor'
import { XENSTORE_SERVER_FEATURE } from '@xenkit/wire'
import { afterAll, assert, beforeAll, describe, expect, test } from 'vitest'
import { compileC, whyNoXenC } from '../../wire/test/compile-c.ts'
import { ByteRingConsumer, ByteRingProducer } from '@xenkit/ring'
import { serveXenstoreRing, connectXenstoreRing } from '@xenkit/xenstore-ring'
import { XenstorePage } from '../src/xenstore-page.ts'
import { PeerProgram } from '../../ring/test/support/peer-program.ts'
import { anyIndex } from '../../ring/test/support/ring-memory.ts'
import {
  FakeReceiver,
  FakeStore,
  Port,
  RING_FEATURES,
  settle,
  setWord,
  xenstorePage,
} from './support/xenstore-page.ts'

const reason = whyNoXenC()
const directory = mkdtempSync(join(tmpdir(), 'xenkit-xenstore-peer-'))
const program = join(directory, 'xenstore-peer')
afterAll(() => rmSync(directory, { recursive: true }))

/** Returns the bytes that the C program xenstore-peer.c writes for the same tag and count. */
const tagged = (tag: number, count: number): Uint8Array =>
  Uint8Array.from({ length: count }, (_, i) => (tag * 31 + i * 7) & 0xff)
const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex')

/**
 * The running C program, the file of pages that it shares with this side, and copies of the pages.
 */
class SharedPages implements Disposable {
  readonly pages: readonly Uint8Array[]
  readonly peer: PeerProgram
  readonly #fd: number

  constructor(count: number, index: number) {
    const file = join(directory, 'pages')
    writeFileSync(file, '')
    truncateSync(file, count * 4096)
    this.#fd = openSync(file, 'r+')
    this.pages = Array.from({ length: count }, () => xenstorePage({ index }))
    this.peer = new PeerProgram(program, file, String(count), String(index))
  }

  /** Reads the page from the file into this side's copy. */
  fetch(page: number): Uint8Array {
    const bytes = this.pages[page] ?? expect.unreachable()
    readSync(this.#fd, bytes, 0, 4096, page * 4096)
    return bytes
  }

  put(page: number): void {
    writeSync(this.#fd, this.pages[page] ?? expect.unreachable(), 0, 4096, page * 4096)
  }

  [Symbol.dispose](): void {
    this.peer.close()
    closeSync(this.#fd)
  }
}

type Operation =
  | { readonly name: 'request' | 'reply' | 'collect' | 'take'; readonly count: number }
  | { readonly name: 'reset' }
const count = fc.oneof(fc.nat(30), fc.nat(1100))
const operation: fc.Arbitrary<Operation> = fc.oneof(
  {
    weight: 20,
    arbitrary: fc.record({
      name: fc.constantFrom(
        'request' as const,
        'reply' as const,
        'collect' as const,
        'take' as const,
      ),
      count,
    }),
  },
  { weight: 1, arbitrary: fc.constant({ name: 'reset' as const }) },
)

/** Our domain's end on page 2, and our xenstored's end on page 1. C has the other ends. */
const ringsOf = ([, second, third]: readonly Uint8Array[]) => {
  const served = new XenstorePage(second ?? expect.unreachable())
  const used = new XenstorePage(third ?? expect.unreachable())
  return {
    take: new ByteRingConsumer(served.ring('req')),
    reply: new ByteRingProducer(served.ring('rsp')),
    collect: new ByteRingConsumer(used.ring('rsp')),
    request: new ByteRingProducer(used.ring('req')),
  }
}

async function compare(index: number, operations: readonly Operation[]): Promise<void> {
  using shared = new SharedPages(3, index)
  const { peer, pages } = shared
  expect(await peer.answer()).toBe('ready')
  for (const page of pages.keys()) shared.fetch(page)
  let rings = ringsOf(pages)
  let tag = 0
  for (const one of operations) {
    if (one.name === 'reset') {
      for (const page of pages.keys()) {
        for (const command of ['reconnect', 'reset']) await peer.run(page, command)
      }
      for (const page of pages.keys()) shared.fetch(page)
      rings = ringsOf(pages)
      continue
    }
    const { name } = one
    tag++
    const puts = name === 'request' || name === 'reply'
    const command = `${name} ${puts ? `${tag} ` : ''}${one.count}`
    const ours = name === 'request' || name === 'collect' ? 2 : 1
    const reference = await peer.run(0, command)
    const other = await peer.run(3 - ours, command)
    shared.fetch(ours)
    const into = new Uint8Array(one.count)
    const answer =
      name === 'request' || name === 'reply'
        ? String(rings[name].write(tagged(tag, one.count)))
        : hex(into.subarray(0, rings[name].read(into)))
    shared.put(ours)
    assert.deepStrictEqual([command, answer, other], [command, reference, reference])
    const [first, ...others] = [...pages.keys()].map((page) => Buffer.from(shared.fetch(page)))
    for (const page of others) assert.isTrue(first?.equals(page), command)
  }
}

/**
 * Connects one of our ends to C. All bytes must arrive both ways, except those from before a reset.
 */
async function meet(
  side: 'domain' | 'xenstored',
  index: number,
  operations: readonly Operation[],
): Promise<void> {
  using shared = new SharedPages(1, index)
  const { peer } = shared
  expect(await peer.answer()).toBe('ready')
  const [port] = Port.pair()
  /** Runs a step of our end, and the turns that follow from it, on the page as C has left it. */
  const ours = async (step = (): void => {}): Promise<void> => {
    shared.fetch(0)
    step()
    port.pending = true
    await settle(port)
    shared.put(0)
  }
  const end =
    side === 'domain' ? await domainEnd(shared, port, ours) : await xenstoredEnd(shared, port, ours)
  const [put, take] = side === 'domain' ? ['reply', 'take'] : ['request', 'collect']
  let [sent, received, arrived] = ['', '', '']
  for (const [tag, one] of operations.entries()) {
    if (one.name === 'reset') {
      await end.reset()
      sent = received = arrived = ''
    } else if (one.name === 'reply') {
      await ours(() => end.send(tagged(tag, one.count)))
      sent += hex(tagged(tag, one.count))
    } else if (one.name === 'request') {
      arrived += hex(tagged(tag, Number(await peer.run(0, `${put} ${tag} ${one.count}`))))
      await ours()
    } else {
      received += await peer.run(0, `${take} ${one.count}`)
      await ours()
    }
    assert.strictEqual(hex(end.arrived()), arrived)
  }
  // The rest of our bytes waited for room in the ring. They follow as C takes bytes out.
  for (let more = '?'; more !== ''; received += more) {
    more = await peer.run(0, `${take} 4096`)
    await ours()
  }
  assert.strictEqual(received, sent)
}

interface End {
  send(bytes: Uint8Array): void
  /** Returns the bytes that our side received since the last reset. */
  arrived(): Uint8Array
  reset(): Promise<void>
}
type Ours = (step?: () => void) => Promise<void>

async function domainEnd({ pages, peer }: SharedPages, port: Port, ours: Ours): Promise<End> {
  const page = pages[0] ?? expect.unreachable()
  let receiver = new FakeReceiver()
  const connect = () =>
    connectXenstoreRing({ page, bind: port.bind }, (receiver = new FakeReceiver()))
  let stream: ByteStream | undefined
  const reset = async (): Promise<void> => {
    await ours(() => {
      setWord(page, 'server_features', XENSTORE_SERVER_FEATURE.RECONNECTION)
      stream?.close()
      stream = connect()
    })
    await peer.run(0, 'reset')
    await ours()
  }
  await reset()
  return {
    send: (bytes) => stream?.write(bytes),
    arrived: () => Uint8Array.from(receiver.received),
    reset,
  }
}

async function xenstoredEnd({ pages, peer }: SharedPages, port: Port, ours: Ours): Promise<End> {
  const page = pages[0] ?? expect.unreachable()
  const store = new FakeStore()
  const { connect } = store
  const served = { page, bind: port.bind, features: RING_FEATURES, connect }
  await ours(() => void serveXenstoreRing(served))
  /**
   * Resets the ring. C then sends one byte, which opens the connection to the store and which
   * `arrived` leaves out.
   */
  const reset = async (): Promise<void> => {
    await peer.run(0, 'reconnect')
    await ours()
    await peer.run(0, 'request 0 1')
    await ours()
  }
  await reset()
  return {
    send: (bytes) => store.last.send(bytes),
    arrived: () => Uint8Array.from(store.last.received.slice(1)),
    reset,
  }
}

describe.skipIf(reason !== undefined)(
  `against xs_wire.h${reason ? ` (skipped: ${reason})` : ''}`,
  () => {
    beforeAll(() => compileC(join(import.meta.dirname, 'support/xenstore-peer.c'), program))
    const operations = fc.array(operation, { minLength: 10, maxLength: 60, size: 'max' })

    test('any sequence of transfers, from any index', async () => {
      await expect(
        fc.assert(fc.asyncProperty(anyIndex, operations, compare), { numRuns: 25 }),
      ).resolves.toBeUndefined()
    })

    test.each(['domain', 'xenstored'] as const)('our %s', async (side) => {
      await expect(
        fc.assert(
          fc.asyncProperty(anyIndex, operations, (index, sequence) => meet(side, index, sequence)),
          { numRuns: 20 },
        ),
      ).resolves.toBeUndefined()
    })
  },
)
