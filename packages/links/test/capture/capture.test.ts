/** Captures, read back by an independent reader, and by tshark where it is installed. */
import { execFileSync, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { createReadStream, mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { PassThrough, Writable } from 'node:stream'
import { buffer } from 'node:stream/consumers'
import fc from 'fast-check'
import { afterAll, describe, expect, test, vi } from 'vitest'
import { Checksum, Frames, Gso } from '@xenkit/frames'
import { type FrameDirection, captureLink, openCable, openCapture } from '../../src/index.ts'
import { batchOf, ethernet, ipv4, macOf, udp } from '../support/frames.ts'
import { readPcapng } from '../support/pcapng-reader.ts'
import { TestCard } from '../support/test-card.ts'

const directory = mkdtempSync(join(tmpdir(), 'xenkit-capture-'))
afterAll(() => rmSync(directory, { recursive: true }))
let files = 0
const newPath = (): string => join(directory, `${files++}`)

const frame = (number: number, bytes = 0): number[] =>
  ethernet({ from: macOf(number), payload: Array.from({ length: bytes }, (_, i) => i & 0xff) })

/** A stream that takes bytes only when it is told to. */
class SlowSink extends Writable {
  readonly chunks: Buffer[] = []
  #next: (() => void) | undefined

  constructor() {
    super({ highWaterMark: 1 })
  }

  override _write(chunk: Buffer, _: BufferEncoding, callback: () => void): void {
    this.chunks.push(Buffer.from(chunk))
    this.#next = callback
  }

  /** Takes what has been written. */
  release(): void {
    this.#next?.()
  }
}

test('frames of several cards are captured, with name, direction and time', async () => {
  const sink = new PassThrough()
  const bytes = buffer(sink)
  const capture = await openCapture(sink)
  const [near, far] = openCable()
  const before = BigInt(Date.now()) * 1_000_000n
  const a = await new TestCard({ name: 'vif1.0' }).plugInto(captureLink(near, capture))
  const b = await new TestCard({ name: 'vif2.0' }).plugInto(captureLink(far, capture))
  a.transmit(frame(1, 0), frame(2, 1))
  b.transmit(frame(3, 2))
  expect(a.take()).toEqual([frame(3, 2)])
  expect(b.take()).toEqual([frame(1, 0), frame(2, 1)])
  await capture.close()
  const read = readPcapng(await bytes)
  expect(read.interfaces).toEqual([
    { name: 'vif1.0', snaplen: 65_535, linktype: 1, received: 3n, dropped: 0n },
    { name: 'vif2.0', snaplen: 65_535, linktype: 1, received: 3n, dropped: 0n },
  ])
  expect(
    read.packets.map(({ interfaceId, direction, data }) => ({ interfaceId, direction, data })),
  ).toEqual([
    { interfaceId: 0, direction: 'inbound', data: frame(1, 0) },
    { interfaceId: 0, direction: 'inbound', data: frame(2, 1) },
    { interfaceId: 1, direction: 'outbound', data: frame(1, 0) },
    { interfaceId: 1, direction: 'outbound', data: frame(2, 1) },
    { interfaceId: 1, direction: 'inbound', data: frame(3, 2) },
    { interfaceId: 0, direction: 'outbound', data: frame(3, 2) },
  ])
  const after = BigInt(Date.now() + 1) * 1_000_000n
  for (const { time } of read.packets) {
    // The clocks of Date and performance differ by some milliseconds.
    expect(time).toBeGreaterThan(before - 1_000_000_000n)
    expect(time).toBeLessThan(after + 1_000_000_000n)
  }
})

test.each(['from-card', 'to-card'] satisfies FrameDirection[])(
  'only frames %s',
  async (direction) => {
    const sink = new PassThrough()
    const bytes = buffer(sink)
    const capture = await openCapture(sink)
    const [near, far] = openCable()
    const a = await new TestCard().plugInto(captureLink(near, capture, direction))
    const b = await new TestCard().plugInto(far)
    a.transmit(frame(1))
    b.transmit(frame(2))
    await capture.close()
    const { packets } = readPcapng(await bytes)
    expect(packets.map(({ data }) => data)).toEqual([frame(direction === 'from-card' ? 1 : 2)])
  },
)

test('any frames, cut at any length, are read back', async () => {
  const sizes = fc.array(fc.integer({ min: 14, max: 70 }), { maxLength: 40 })
  await fc.assert(
    fc.asyncProperty(
      fc.array(sizes, { maxLength: 5 }),
      fc.integer({ min: 1, max: 80 }),
      async (batches, snaplen) => {
        const sink = new PassThrough()
        const bytes = buffer(sink)
        const capture = await openCapture(sink, { snaplen })
        const card = capture.interface('vif1.0')
        const frames = batches.map((lengths) => lengths.map((length) => frame(length, length - 14)))
        for (const batch of frames) card.record(batchOf(...batch), 'from-card')
        await capture.close()
        const { packets } = readPcapng(await bytes)
        expect(packets.map(({ data, originalLength }) => [data, originalLength])).toEqual(
          frames.flat().map((it) => [it.slice(0, snaplen), it.length]),
        )
      },
    ),
    { numRuns: 50 },
  )
})

test('a GSO frame is captured as it is', async () => {
  const sink = new PassThrough()
  const bytes = buffer(sink)
  const capture = await openCapture(sink)
  const memory = Uint8Array.from({ length: 65_535 }, (_, i) => (i * 7) & 0xff)
  const frames = new Frames(1)
  frames.reset(memory)
  frames.add({
    start: 0,
    length: 65_535,
    gso: Gso.TCPV4,
    gsoSize: 1448,
    headers: 66,
    checksum: Checksum.BLANK,
    checksumStart: 34,
    checksumOffset: 16,
  })
  capture.interface('vif1.0').record(frames, 'to-card')
  await capture.close()
  const [packet] = readPcapng(await bytes).packets
  expect(Buffer.from(packet?.data ?? []).equals(memory)).toBe(true)
})

test('a sink that takes nothing holds up no frame: the rest are counted, and the gap is recorded', async () => {
  const sink = new SlowSink()
  const capture = await openCapture(sink, { bufferBytes: 256 * 1024 })
  const [near, far] = openCable()
  const a = await new TestCard().plugInto(captureLink(near, capture, 'from-card'))
  const b = await new TestCard().plugInto(far)
  const card = capture.interface(a.name)
  for (let i = 0; i < 100; i++) a.transmit(frame(i, 10_000))
  expect(b.take()).toHaveLength(100)
  expect(card.received).toBe(100)
  const lost = card.dropped
  expect(lost).toBeGreaterThan(70)
  expect(lost).toBeLessThan(80)
  // Once the first chunk is written, there is room again.
  await vi.waitFor(() => expect(sink.chunks).toHaveLength(1))
  sink.release()
  await vi.waitFor(() => expect(sink.chunks).toHaveLength(2))
  a.transmit(frame(200, 10))
  expect(card.dropped).toBe(lost)
  const closing = capture.close()
  const drain = setInterval(() => sink.release(), 1)
  await closing
  clearInterval(drain)
  const { packets, drops, interfaces } = readPcapng(Buffer.concat(sink.chunks))
  expect(packets.map(({ data }) => data[11])).toEqual([
    ...Array.from({ length: 100 - lost }, (_, i) => i),
    200,
  ])
  expect(drops[0]).toEqual({ packets: 100 - lost, dropped: BigInt(lost) })
  expect(interfaces).toMatchObject([{ received: 101n, dropped: BigInt(lost) }])
})

test('a part of the buffer that is used again leaves no trace', async () => {
  const sink = new PassThrough()
  const bytes = buffer(sink)
  const capture = await openCapture(sink)
  const card = capture.interface('vif1.0')
  for (let i = 0; i < 3; i++) {
    card.record(
      batchOf(ethernet({ payload: Array.from({ length: 401 - i }, () => 255) })),
      'to-card',
    )
    // The part is free once it has been written.
    await vi.waitFor(() => expect(sink.readableLength).toBe(0))
    await new Promise((resolve) => setImmediate(resolve))
  }
  await capture.close()
  expect(readPcapng(await bytes).packets).toHaveLength(3)
})

test('a sink that somebody else destroys ends the capture', async () => {
  const onError = vi.fn<(error: Error) => void>()
  const sink = new PassThrough()
  const capture = await openCapture(sink, { onError })
  sink.destroy()
  capture.interface('vif1.0').record(batchOf(frame(1)), 'to-card')
  await vi.waitFor(() => expect(onError).toHaveBeenCalledOnce())
  await expect(capture.close()).rejects.toThrow('Premature close')
})

test('closing leaves no timer', async () => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'setImmediate', 'clearImmediate'] })
  try {
    const sink = new PassThrough()
    sink.resume()
    const capture = await openCapture(sink)
    capture.interface('vif1.0').record(batchOf(frame(1)), 'to-card')
    await Promise.all([capture.close(), capture.close()])
    expect(vi.getTimerCount()).toBe(0)
    await capture.close()
  } finally {
    vi.useRealTimers()
  }
})

test('a sink that fails ends the capture, not the traffic', async () => {
  const onError = vi.fn<(error: Error) => void>()
  const sink = new Writable({ write: (_, __, callback) => callback(new Error('disk full')) })
  const capture = await openCapture(sink, { onError })
  const [near, far] = openCable()
  const a = await new TestCard().plugInto(captureLink(near, capture))
  const b = await new TestCard().plugInto(far)
  await vi.waitFor(() => expect(onError).toHaveBeenCalledOnce())
  a.transmit(frame(1))
  expect(b.take()).toEqual([frame(1)])
  expect(capture.interface(a.name)).toMatchObject({ received: 1, dropped: 1 })
  await expect(capture.close()).rejects.toThrow('disk full')
  a.transmit(frame(2))
  expect(b.take()).toEqual([frame(2)])
})

test('a sink that never takes anything is given up on at close', async () => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] })
  try {
    const sink = new SlowSink()
    const capture = await openCapture(sink)
    capture.interface('vif1.0').record(batchOf(frame(1)), 'to-card')
    const [closing] = await Promise.allSettled([capture.close(), vi.advanceTimersByTimeAsync(5000)])
    expect(String(closing.status === 'rejected' && closing.reason)).toContain('nothing for 5000 ms')
    expect(sink.destroyed).toBe(true)
    expect(vi.getTimerCount()).toBe(0)
  } finally {
    vi.useRealTimers()
  }
})

test('options are checked', async () => {
  await expect(openCapture(new PassThrough(), { snaplen: 0 })).rejects.toThrow(/"snaplen"/)
  await expect(openCapture(new PassThrough(), { bufferBytes: 1 })).rejects.toThrow(/"bufferBytes"/)
  await expect(openCapture(join(directory, 'none', 'x'))).rejects.toThrow(/ENOENT/)
})

test('a file is readable by its owner alone', async () => {
  const path = newPath()
  const capture = await openCapture(path)
  await capture.close()
  expect(statSync(path).mode & 0o777).toBe(0o600)
  expect(readPcapng(readFileSync(path)).interfaces).toEqual([])
})

describe('a named pipe', () => {
  const newPipe = (): string => {
    const path = newPath()
    execFileSync('mkfifo', [path])
    return path
  }

  test('is read live, without waiting for the end', async () => {
    const path = newPipe()
    const opening = openCapture(path)
    const reader = createReadStream(path)
    const capture = await opening
    let got = Buffer.alloc(0)
    reader.on('data', (chunk) => {
      got = Buffer.concat([got, Buffer.from(chunk)])
    })
    const card = capture.interface('vif1.0')
    for (let i = 1; i <= 3; i++) {
      card.record(batchOf(frame(i)), 'to-card')
      await vi.waitFor(() => expect(readPcapng(got).packets).toHaveLength(i))
    }
    await capture.close()
    await once(reader, 'close')
    expect(readPcapng(got).interfaces).toMatchObject([{ received: 3n }])
  })

  test('whose reader leaves ends the capture', async () => {
    const path = newPipe()
    const reader = createReadStream(path)
    const onError = vi.fn<(error: Error) => void>()
    const capture = await openCapture(path, { onError })
    reader.on('data', () => reader.destroy())
    const card = capture.interface('vif1.0')
    await vi.waitFor(() => {
      card.record(batchOf(frame(1)), 'to-card')
      expect(onError).toHaveBeenCalledOnce()
    })
    await expect(capture.close()).rejects.toThrow('EPIPE')
  })

  test('that nobody reads is waited for until the signal aborts', async () => {
    const aborting = new AbortController()
    const opening = openCapture(newPipe(), { signal: aborting.signal })
    aborting.abort(new Error('enough'))
    await expect(opening).rejects.toThrow()
  })
})

const hasTshark = spawnSync('tshark', ['--version']).status === 0

test.skipIf(!hasTshark)(
  'tshark reads names, directions, times and drops',
  { timeout: 30_000 },
  async () => {
    const path = newPath()
    const capture = await openCapture(path)
    const packet = ethernet({
      type: 0x0800,
      payload: ipv4({ from: '10.0.0.1', to: '10.0.0.2', protocol: 17, payload: udp(1234, 53) }),
    })
    capture.interface('vif3.0').record(batchOf(packet), 'from-card')
    capture.interface('vif4.1').record(batchOf(packet, frame(1, 3)), 'to-card')
    await capture.close()
    const fields = [
      'frame.interface_name',
      'frame.packet_flags_direction',
      'udp.dstport',
      'frame.len',
    ]
    const output = execFileSync(
      'tshark',
      ['-r', path, '-T', 'fields', ...fields.flatMap((field) => ['-e', field])],
      { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] },
    )
    expect(output.trim().split('\n')).toEqual([
      'vif3.0\t0x00000001\t53\t42',
      'vif4.1\t0x00000002\t53\t42',
      'vif4.1\t0x00000002\t\t17',
    ])
  },
)
