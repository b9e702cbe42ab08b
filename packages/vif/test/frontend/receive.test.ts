/** What a card makes of responses on its receive ring. A backend written by hand sends them. */
import { ALL_OFFLOADS, Checksum, Frames, Gso } from '@xenkit/frames'
import fc from 'fast-check'
import { expect, test } from 'vitest'
import type { Vif } from '../../src/index.ts'
import { bytesOf, connectedVif } from '../support/connected-vif.ts'
import type { Received } from '../support/hand-backend.ts'

const DATA_VALIDATED = 1
const CSUM_BLANK = 2
const MORE_DATA = 4
const EXTRA_INFO = 8

/** A frame as a listener got it. */
interface Got {
  readonly bytes: Uint8Array
  readonly checksum: number
  readonly checksumStart: number
  readonly checksumOffset: number
  readonly gso: number
  readonly gsoSize: number
  readonly headers: number
}

/** Collects a card's frames. `wait` resolves when there are so many. */
function collect(vif: Vif) {
  const got: Got[] = []
  let check = (): void => {}
  vif.onFrames((frames) => {
    for (let i = 0; i < frames.count; i++) {
      got.push({
        bytes: frames.bytes(i).slice(),
        checksum: frames.checksum[i] ?? 0,
        checksumStart: frames.checksumStart[i] ?? 0,
        checksumOffset: frames.checksumOffset[i] ?? 0,
        gso: frames.gso[i] ?? 0,
        gsoSize: frames.gsoSize[i] ?? 0,
        headers: frames.headers[i] ?? 0,
      })
    }
    check()
  })
  const wait = (count: number): Promise<void> =>
    new Promise((resolve) => {
      check = () => {
        if (got.length >= count) resolve()
      }
      check()
    })
  return { got, wait }
}

/** Responses of one frame, a page each. */
function responsesOf(frame: Uint8Array, flags = 0, extras: number[][] = []): Received[] {
  const parts = Array.from({ length: Math.ceil(frame.length / 4096) }, (_, i) =>
    frame.subarray(i * 4096, (i + 1) * 4096),
  )
  const data = parts.map((part, i) => ({
    data: part,
    flags: (i === 0 ? flags : 0) | (i + 1 < parts.length ? MORE_DATA : 0),
  }))
  return [...data.slice(0, 1), ...extras.map((extra) => ({ extra })), ...data.slice(1)]
}

/** Headers of TCP over IPv4, 54 bytes, before a payload. */
function tcp4(length: number): Uint8Array {
  const frame = bytesOf(length)
  const view = new DataView(frame.buffer)
  view.setUint16(12, 0x0800)
  view.setUint8(14, 0x45)
  view.setUint16(16, length - 14)
  view.setUint16(20, 0)
  view.setUint8(23, 6)
  view.setUint8(46, 5 << 4)
  return frame
}

test('frames of all lengths arrive in order, wherever the responses are cut', async () => {
  await using r = await connectedVif()
  const { got, wait } = collect(r.vif)
  const length = fc.integer({ min: 14, max: 65_535 })
  let sent = 0
  await fc.assert(
    fc.asyncProperty(
      fc.array(length, { minLength: 1, maxLength: 12 }),
      fc.array(fc.nat(200), { maxLength: 4 }),
      async (lengths, cuts) => {
        got.length = 0
        const responses = lengths.flatMap((each) => responsesOf(bytesOf(each)))
        let from = 0
        for (const to of [...cuts.toSorted((x, y) => x - y), responses.length]) {
          r.back.queue.receive(...responses.slice(from, to))
          from = Math.max(from, to)
          await r.back.posted(256)
        }
        await wait(lengths.length)
        for (const [i, each] of lengths.entries()) {
          expect(Buffer.compare(got[i]?.bytes ?? Buffer.alloc(0), bytesOf(each))).toBe(0)
        }
        sent += lengths.length
      },
    ),
    { numRuns: 20 },
  )
  expect(r.vif.counts).toMatchObject({ receivedFrames: sent, receiveErrors: 0 })
})

test('no frame is written past the memory of its batch, however long it is', async () => {
  await using r = await connectedVif()
  const { got, wait } = collect(r.vif)
  // Frames in flight fill the pages behind that memory.
  const frames = new Frames(256)
  frames.reset(bytesOf(4096))
  for (let i = 0; i < 256; i++) frames.add({ start: 0, length: 4096 })
  expect(r.vif.send(frames)).toBe(256)
  const longest = bytesOf(65_535)
  // Seven of the longest frames at a time: more than a batch's memory holds.
  r.back.queue.receive(...Array.from({ length: 7 }, () => responsesOf(longest)).flat())
  await wait(7)
  expect(got.every(({ bytes }) => Buffer.compare(bytes, longest) === 0)).toBe(true)
  // And a frame of 200 slots, which no backend may send.
  await r.back.posted(256)
  const parts = Array.from({ length: 200 }, (_, i) => ({
    data: bytesOf(4096),
    flags: i < 199 ? MORE_DATA : 0,
  }))
  r.back.queue.receive(...parts, { data: bytesOf(60) })
  await wait(8)
  expect(r.vif.counts).toMatchObject({ receivedFrames: 8, receiveErrors: 1 })
  const sent = r.back.queue.sent().map(({ gref }) => r.back.page(gref))
  expect(sent).toHaveLength(256)
  expect(sent.every((page) => Buffer.compare(page, bytesOf(4096)) === 0)).toBe(true)
})

test('offload columns: verified, blank, and segments of both IP versions', async () => {
  await using r = await connectedVif({ offloads: ALL_OFFLOADS })
  const { got, wait } = collect(r.vif)
  const offloaded = CSUM_BLANK | DATA_VALIDATED
  const gso = [1, 0, 1400 & 255, 1400 >> 8, Gso.TCPV4, 0, 0, 0]
  const hash = [4, 1, 0, 1, 0, 0, 0, 0]
  r.back.queue.receive(
    ...responsesOf(tcp4(60)),
    ...responsesOf(tcp4(61), DATA_VALIDATED),
    ...responsesOf(tcp4(62), offloaded),
    ...responsesOf(tcp4(65_000), offloaded | EXTRA_INFO, [hash, gso]),
  )
  await wait(4)
  const blank = { checksum: Checksum.BLANK, checksumStart: 34, checksumOffset: 16 }
  expect(got).toMatchObject([
    { checksum: Checksum.COMPLETE, gso: Gso.NONE },
    { checksum: Checksum.VERIFIED, gso: Gso.NONE },
    { ...blank, gso: Gso.NONE },
    { ...blank, gso: Gso.TCPV4, gsoSize: 1400, headers: 54 },
  ])
  expect(Buffer.compare(got[3]?.bytes ?? Buffer.alloc(0), tcp4(65_000))).toBe(0)
})

test('headroom before the data of each slot is left out', async () => {
  await using r = await connectedVif()
  const { got, wait } = collect(r.vif)
  const frame = bytesOf(5000)
  const padded = (part: Uint8Array): Uint8Array => Buffer.concat([Buffer.alloc(256), part])
  r.back.queue.receive(
    { data: padded(frame.subarray(0, 3840)), flags: MORE_DATA | EXTRA_INFO },
    { extra: [5, 0, 0, 1, 0, 0, 0, 0] },
    { data: padded(frame.subarray(3840)) },
    ...responsesOf(bytesOf(8000)),
  )
  await wait(2)
  expect(Buffer.compare(got[0]?.bytes ?? Buffer.alloc(0), frame)).toBe(0)
  expect(Buffer.compare(got[1]?.bytes ?? Buffer.alloc(0), bytesOf(8000))).toBe(0)
})

test('frames with errors are counted and dropped, the ones around them arrive', async () => {
  await using r = await connectedVif()
  const { got, wait } = collect(r.vif)
  const good = (): Received[] => responsesOf(bytesOf(60))
  const bad: Received[][] = [
    [{ status: -1 }],
    [{ data: bytesOf(13) }],
    [{ data: bytesOf(100), offset: 4000, status: 100 }].map((o) => ({ ...o, data: bytesOf(96) })),
    [{ data: bytesOf(4096), flags: MORE_DATA }, { status: -1 }],
    Array.from({ length: 17 }, (_, i) => ({
      data: bytesOf(4096),
      flags: i < 16 ? MORE_DATA : 0,
    })),
    // A blank checksum in what isn't TCP or UDP.
    responsesOf(bytesOf(60), CSUM_BLANK),
    // GSO of size 0, and of a type that doesn't exist.
    responsesOf(tcp4(5000), EXTRA_INFO | CSUM_BLANK, [[1, 0, 0, 0, 1, 0, 0, 0]]),
    responsesOf(tcp4(5000), EXTRA_INFO | CSUM_BLANK, [[1, 0, 1, 1, 7, 0, 0, 0]]),
    // Headroom that is longer than the first slot.
    [
      { data: bytesOf(60), flags: EXTRA_INFO | MORE_DATA },
      { extra: [5, 0, 61, 0, 0, 0, 0, 0] },
      { data: bytesOf(200) },
    ],
  ]
  r.back.queue.receive(...good(), ...bad.flatMap((responses) => [...responses, ...good()]))
  await wait(bad.length + 1)
  expect(r.vif.counts).toMatchObject({
    receivedFrames: bad.length + 1,
    receiveErrors: bad.length,
  })
  expect(got.every(({ bytes }) => Buffer.compare(bytes, bytesOf(60)) === 0)).toBe(true)
})

test('pages are posted again at once, and more frames fit than the ring has slots', async () => {
  await using r = await connectedVif()
  const { got, wait } = collect(r.vif)
  expect(r.back.queue.rx.available).toBe(256)
  for (let i = 0; i < 10; i++) {
    r.back.queue.receive(...Array.from({ length: 256 }, () => ({ data: bytesOf(64) })))
    await wait((i + 1) * 256)
    expect(r.back.queue.rx.available).toBe(256)
  }
  expect(got).toHaveLength(2560)
})

test('the backend is notified of posted pages when it asks', async () => {
  await using r = await connectedVif()
  const { queue } = r.back
  const port = queue.ports[1]
  // Xen sends the first event when the port is bound.
  await r.back.until(() => queue.events.get(port) === 1)
  const { wait } = collect(r.vif)
  // It takes all posted pages, and asks for an event with the next one.
  const [first] = Array.from({ length: 256 }, () => queue.rx.take().message)
  expect(queue.rx.arm()).toBe(false)
  const slot = queue.rx.next()
  slot.setUint16(0, first?.getUint16(0, true) ?? 0, true)
  slot.setUint32(2, 0, true)
  slot.setInt16(6, 60, true)
  if (queue.rx.push()) port.notify()
  await wait(1)
  await r.back.until(() => queue.events.get(port) === 2)
  expect(queue.rx.available).toBe(1)
})

test('a response that is not in the slot of its request closes the card', async () => {
  const r = await connectedVif()
  const ended = r.vif[Symbol.asyncIterator]().next()
  r.back.queue.receive({ data: bytesOf(64), id: 77 })
  await expect(ended).rejects.toThrow('receive ring has id 77')
  await r[Symbol.asyncDispose]()
})

test('an iteration gets copies of frames, in order, and ends with the card', async () => {
  const r = await connectedVif()
  r.back.queue.receive(...[60, 61, 62].map((length) => ({ data: bytesOf(length) })))
  const got: Uint8Array[] = []
  let closing: PromiseLike<unknown> | undefined
  for await (const frame of r.vif) {
    got.push(frame)
    if (got.length === 3) closing = r[Symbol.asyncDispose]()
  }
  await closing
  expect(got).toEqual([60, 61, 62].map(bytesOf))
})

test('an iteration holds 1024 frames; more are counted as overrun', async () => {
  await using r = await connectedVif()
  const frames = r.vif[Symbol.asyncIterator]()
  const { wait } = collect(r.vif)
  for (let i = 0; i < 5; i++) {
    r.back.queue.receive(...Array.from({ length: 256 }, () => ({ data: bytesOf(64) })))
    await wait((i + 1) * 256)
  }
  expect(r.vif.counts.overrun).toBe(256)
  await frames.return?.()
})

test('an error of a listener closes the card', async () => {
  const r = await connectedVif()
  r.vif.onFrames(() => {
    throw new TypeError('mine')
  })
  const ended = r.vif[Symbol.asyncIterator]().next()
  r.back.queue.receive({ data: bytesOf(64) })
  await expect(ended).rejects.toThrow('mine')
  await r[Symbol.asyncDispose]()
})
