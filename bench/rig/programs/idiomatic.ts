/**
 * idiomatic FILE RING PORT GREF...: a backend as one would write it without a library. It makes an
 * object per request, reads the data by `fs.read`, and answers each request separately. The guest's
 * pages stay mapped from the start, as with persistent grants: RING is the grant reference of the
 * ring's page, GREF... are those of the data pages.
 */
import { open } from 'node:fs/promises'
import { openHypervisor } from 'xenkit'
import { answerLines } from '../../src/answer-lines.ts'

const [file = '', ...numbers] = process.argv.slice(2)
const [ringRef = 0, port = 0, ...grefs] = numbers.map(Number)
const SLOTS = 32
const [RING, SLOT_SIZE] = [64, 112]
const [REQ_PROD, REQ_EVENT, RSP_PROD, RSP_EVENT] = [0, 1, 2, 3]

await using hv = await openHypervisor({ adapter: 'xen' })
await using image = await open(file)
const map = (gref: number): Uint8Array =>
  hv.grants.map([{ domid: 1, gref }], { writable: true }).bytes
const pages = new Map(grefs.map((gref) => [gref, map(gref)]))
const page = map(ringRef)
const view = new DataView(page.buffer, page.byteOffset, page.length)
const indices = new Int32Array(page.buffer, page.byteOffset, 4)
const channel = hv.evtchn.bindInterdomain({ domid: 1, port }, drain)
let [consumed, answered] = [0, 0]

interface Request {
  readonly operation: number
  readonly id: bigint
  readonly sector: bigint
  readonly segments: readonly {
    readonly gref: number
    readonly first: number
    readonly last: number
  }[]
}

function readRequest(at: number): Request {
  const segments = Array.from({ length: view.getUint8(at + 1) }, (_, i) => {
    const segment = at + 24 + i * 8
    return {
      gref: view.getUint32(segment, true),
      first: view.getUint8(segment + 4),
      last: view.getUint8(segment + 5),
    }
  })
  return {
    operation: view.getUint8(at),
    id: view.getBigUint64(at + 8, true),
    sector: view.getBigUint64(at + 16, true),
    segments,
  }
}

function drain(): void {
  do {
    while (consumed !== Atomics.load(indices, REQ_PROD)) {
      void serve(readRequest(RING + (consumed++ % SLOTS) * SLOT_SIZE))
    }
    Atomics.store(indices, REQ_EVENT, consumed + 1)
  } while (consumed !== Atomics.load(indices, REQ_PROD))
  channel.unmask()
}

async function serve({ operation, id, sector, segments }: Request): Promise<void> {
  let position = Number(sector) * 512
  for (const { gref, first, last } of segments) {
    const into = pages.get(gref)?.subarray(first * 512, (last + 1) * 512) ?? new Uint8Array()
    await image.read(into, 0, into.length, position)
    position += into.length
  }
  const at = RING + (answered % SLOTS) * SLOT_SIZE
  view.setBigUint64(at, id, true)
  view.setUint8(at + 8, operation)
  view.setInt16(at + 10, 0, true)
  const published = ++answered
  Atomics.store(indices, RSP_PROD, published)
  if (Atomics.load(indices, RSP_EVENT) === published) channel.notify()
}

await answerLines(async () => null)
