/**
 * The handshakes of real frontends: each connects as its source does, sends and receives frames as
 * it does, and closes. The frontends are written by hand, on rings that share no code with ours.
 */
import { Checksum, Frames, Gso } from '@xenkit/frames'
import { describe, expect, test } from 'vitest'
import { HandFront, type FrontendTable, type HandFrame } from '../support/hand-front.ts'
import { REAL_FRONTENDS } from '../support/real-frontends.ts'
import { Served } from '../support/served.ts'

const CSUM_BLANK = 1
const DATA_VALIDATED = 2
const RX_DATA_VALIDATED = 1
const RX_CSUM_BLANK = 2
/** netback's limit of a response that all frontends take. */
const MSS = 1448

/** A frame of TCP over IPv4, whose payload differs from place to place. */
function tcp4(length: number): Uint8Array {
  const frame = Uint8Array.from({ length }, (_, i) => (i * 13 + (i >> 8) + length) & 255)
  const view = new DataView(frame.buffer)
  frame[0] = 2
  view.setUint16(12, 0x0800)
  view.setUint8(14, 0x45)
  view.setUint16(16, length - 14)
  view.setUint16(20, 0)
  view.setUint8(23, 6)
  view.setUint8(46, 5 << 4)
  return frame
}

/** What is equal before and after a checksum was filled in: all but its two bytes, at 50. */
const withoutChecksum = (frame: Uint8Array): Buffer =>
  Buffer.concat([frame.subarray(0, 50), frame.subarray(52)])

/** Frames that a frontend sends: small, of Ethernet's usual size, and as large as it can. */
function framesOf({ takes, tx, name }: FrontendTable): HandFrame[] {
  const plain = name === 'iPXE' ? DATA_VALIDATED : 0
  const frames: HandFrame[] = [
    { bytes: tcp4(60), flags: plain },
    { bytes: tcp4(1514), flags: plain },
  ]
  if (takes.checksum4) frames.push({ bytes: tcp4(1000), flags: CSUM_BLANK | DATA_VALIDATED })
  if (takes.sg) frames.push({ bytes: tcp4(9014), flags: plain })
  if (takes.gso4) {
    const bytes = tcp4(Math.min(40_000, 17 * tx.slotBytes))
    const extras = [[1, 0, MSS & 255, MSS >> 8, Gso.TCPV4]]
    frames.push({ bytes, flags: CSUM_BLANK | DATA_VALIDATED, extras })
  }
  if (!tx.extra) return frames
  const { extra } = tx
  return frames.map((frame) => ({ ...frame, extras: [...(frame.extras ?? []), extra] }))
}

describe.each(REAL_FRONTENDS.map((table) => [table.name, table] as const))('%s', (_, table) => {
  test('connects, sends, receives, and closes', async () => {
    await using r = await Served.open()
    const front = await HandFront.open(r.guest, table)
    r.serve()
    await front.connect()
    await r.event('connected')
    const { end } = r.link
    expect(end.carriers).toEqual([true])
    const { sg: _sg, ...offloads } = table.takes
    expect(end.card.offloads).toEqual({ ...offloads, tagged: false })

    await sends(r, front, table)
    await receives(r, front, table)
    await closes(r, front, table)
  })

  test('is served too if it has connected before the service starts', async () => {
    await using r = await Served.open()
    const early: FrontendTable = { ...table, resets: false, waits: false, reads: [] }
    const front = await HandFront.open(r.guest, early)
    const connecting = front.connect()
    await r.xs.wait(
      async (view) => (await view.readOptional(`${front.path}/state`)) === '4' || undefined,
    )
    r.serve()
    await connecting
    await r.event('connected')
    expect(r.link.end.carriers).toEqual([true])
    await sends(r, front, table)
    await closes(r, front, table)
  })
})

/** Each queue's frames reach the link, and each slot is answered. */
async function sends(r: Served, front: HandFront, table: FrontendTable): Promise<void> {
  const { got } = r.link.end
  for (const queue of front.queues) {
    got.length = 0
    const frames = framesOf(table)
    const dummies = (table.tx.dummies ?? []).map((extra) => ({ bytes: tcp4(60), extras: [extra] }))
    for (const frame of [...dummies, ...frames]) queue.send(frame)
    const slots = [...dummies, ...frames].reduce<number>(
      (sum, { bytes, extras = [] }: HandFrame) =>
        sum + Math.ceil(bytes.length / table.tx.slotBytes) + extras.length,
      0,
    )
    await front.until(() => queue.answers.length === slots)
    expect(queue.answers.splice(0).every(({ status }) => status === 0 || status === 1)).toBe(true)
    expect(got).toHaveLength(frames.length)
    for (const [i, { bytes, flags = 0, extras = [] }] of frames.entries()) {
      const { bytes: sent, checksum, gso } = got[i] ?? { bytes: new Uint8Array(0) }
      expect(withoutChecksum(sent).equals(withoutChecksum(bytes))).toBe(true)
      const isGso = extras.some(([type]) => type === 1)
      expect(gso).toBe(isGso ? Gso.TCPV4 : Gso.NONE)
      const blank = (flags & CSUM_BLANK) !== 0
      const known = flags & DATA_VALIDATED ? Checksum.VERIFIED : Checksum.COMPLETE
      expect(checksum).toBe(blank ? Checksum.BLANK : known)
    }
  }
}

/** Frames of the link reach the guest, if it takes them. */
async function receives(r: Served, front: HandFront, table: FrontendTable): Promise<void> {
  const { card } = r.link.end
  const { takes } = table
  const frames = new Frames(8)
  const sent = [60, 1514, 4096, 9014, 30_000, 61].map(tcp4)
  frames.reset(Buffer.concat(sent))
  let start = 0
  for (const { length } of sent) {
    frames.add({ start, length })
    start += length
  }
  // A frontend without scatter-gather gets no frame of several slots, but those around it.
  const taken = sent.filter(({ length }) => takes.sg || length <= 4096)
  card.send(frames)
  const all = () => front.queues.flatMap(({ received }) => received)
  await front.until(() => all().length === taken.length)
  const received = front.queues.flatMap((queue) => queue.received.splice(0))
  for (const frame of taken) {
    const found = received.find(({ bytes }) => Buffer.compare(bytes, frame) === 0)
    expect(found?.flags).toBe(0)
    expect(found?.slots[0]).toBe(Math.min(4096, frame.length))
  }

  if (!takes.checksum4) return
  const large = tcp4(takes.gso4 ? 40_000 : 1514)
  frames.reset(large)
  frames.add({
    start: 0,
    length: large.length,
    checksum: Checksum.BLANK,
    checksumStart: 34,
    checksumOffset: 16,
    gso: takes.gso4 ? Gso.TCPV4 : Gso.NONE,
    gsoSize: MSS,
    headers: 54,
  })
  card.send(frames)
  await front.until(() => all().length === 1)
  const [offloaded] = front.queues.flatMap((queue) => queue.received.splice(0))
  expect(Buffer.compare(offloaded?.bytes ?? Buffer.alloc(0), large)).toBe(0)
  const flags = (offloaded?.flags ?? 0) & (RX_CSUM_BLANK | RX_DATA_VALIDATED)
  expect(flags).toBe(RX_CSUM_BLANK | RX_DATA_VALIDATED)
  const extras = offloaded?.extras.map(({ buffer }) => [...new Uint8Array(buffer, 0, 6)])
  expect(extras).toEqual(takes.gso4 ? [[1, 0, MSS & 255, MSS >> 8, 1, 0]] : [])
}

/** The backend follows the frontend's states, or the end of its domain. */
async function closes(r: Served, front: HandFront, table: FrontendTable): Promise<void> {
  if (table.closes.length === 0) r.machine.destroyDomain(r.guest.domid)
  else await front.close()
  await r.event('closed')
  expect(r.link.end.carriers).toEqual([true, false])
  front.release()
}
