import { createSocket, type Socket } from 'node:dgram'
import { once } from 'node:events'
import { afterEach, describe, expect, test } from 'vitest'
import { loadNative } from '../index.js'
import { until } from './fifo.ts'
import { connect, HOST, ip, ip4, NEIGHBOUR, openTap, pseudoSum, sum, udp, whyNoTap } from './tap.ts'

const native = loadNative()
const reason = whyNoTap()
const skipped = reason ? ` (skipped: ${reason})` : ''
const coded = (code: string, message = ''): unknown =>
  expect.objectContaining({ code, message: expect.stringContaining(message) as string })

afterEach(() => until(() => native.counters().polls === 0 && native.counters().fds === 0))

/** A UDP socket on the host's address. */
async function listen(): Promise<{
  readonly socket: Socket
  readonly port: number
  readonly got: string[]
}> {
  const socket = createSocket('udp4')
  const got: string[] = []
  socket.on('message', (message) => got.push(message.toString('latin1')))
  socket.bind(0, HOST)
  await once(socket, 'listening')
  return { socket, port: socket.address().port, got }
}

/** Frames that a device has received, for which `keep` holds. */
function receiver(tap: ReturnType<typeof openTap>, keep: (frame: Buffer) => boolean) {
  const frames: { readonly bytes: Buffer; readonly at: readonly number[] }[] = []
  return {
    frames,
    receive(): void {
      const count = tap.read(tap.memory, 64)
      for (let i = 0; i < count; i++) {
        const start = tap.start[i] ?? 0
        const bytes = Buffer.from(tap.memory.slice(start, start + (tap.length[i] ?? 0)))
        const columns = [tap.checksum, tap.checksumStart, tap.checksumOffset, tap.gso, tap.gsoSize]
        if (keep(bytes)) frames.push({ bytes, at: columns.map((column) => column[i] ?? 0) })
      }
    },
  }
}

const protocolIs = (protocol: number) => (frame: Buffer) =>
  frame.readUInt16BE(12) === 0x0800 && frame[23] === protocol

describe.skipIf(reason !== undefined).each([
  ['io_uring', undefined],
  ['calls', 'calls'],
] as const)(`a TAP device by %s${skipped}`, (kind, asked) => {
  test('sends and receives batches of frames in order', async () => {
    using tap = openTap(() => pings.receive(), { ...(asked && { kind: asked }) })
    const pings = receiver(tap, protocolIs(1))
    expect(tap.device.kind).toBe(kind)
    tap.device.setUp(true)
    const mac = connect(tap.name)
    // Echo requests of different lengths: the kernel answers each one.
    let at = 0
    for (let i = 0; i < 64; i++) {
      const echo = Buffer.alloc(8 + i * 20, i)
      echo.set([8, 0, 0, 0])
      echo.writeUInt16BE(0xffff - sum(echo), 2)
      const frame = ip4(mac, 1, echo)
      tap.memory.set(frame, at)
      tap.start[i] = at
      tap.length[i] = frame.length
      at += frame.length
    }
    expect(tap.write(tap.memory, 64)).toBe(64)
    expect(tap.error[0]).toBe(0)
    await until(() => pings.frames.length === 64)
    for (const [i, { bytes }] of pings.frames.entries()) {
      expect(bytes.length).toBe(42 + i * 20)
      expect(bytes.subarray(38).every((byte) => byte === i)).toBe(true)
    }
  })

  test('without frames a read returns at once', () => {
    using tap = openTap(() => {}, { ...(asked && { kind: asked }) })
    expect(tap.read(tap.memory, 64)).toBe(0)
    expect(tap.error[0]).toBe(0)
  })

  test('blank checksums pass both ways', async () => {
    using tap = openTap(() => udps.receive(), { ...(asked && { kind: asked }) })
    const udps = receiver(tap, protocolIs(17))
    tap.device.setUp(true)
    const mac = connect(tap.name)
    const { socket, port, got } = await listen()
    const send = (text: string, checksum: number, field: number): void => {
      const frame = udp(mac, port, Buffer.from(text))
      frame.writeUInt16BE(field, 40)
      tap.memory.set(frame)
      tap.start[0] = 0
      tap.length[0] = frame.length
      tap.checksum[0] = checksum
      tap.checksumStart[0] = 34
      tap.checksumOffset[0] = 6
      expect(tap.write(tap.memory, 1)).toBe(1)
    }
    send('wrong', 0, 0x1234)
    send('blank', 2, pseudoSum(17, 13))
    await until(() => got.includes('blank'))
    expect(got).toEqual(['blank'])

    const texts = (): string[] => udps.frames.map(({ bytes }) => bytes.toString('latin1', 42))
    socket.send('complete', 9, NEIGHBOUR)
    await until(() => texts().includes('complete'))
    tap.device.setOffloads(1)
    socket.send('incomplete', 9, NEIGHBOUR)
    await until(() => texts().includes('incomplete'))
    const [complete, incomplete] = udps.frames
    expect(complete?.at.slice(0, 1)).toEqual([0])
    expect(incomplete?.at).toEqual([2, 34, 6, 0, 0])
    socket.close()
  })

  test('reports the deletion of its interface, also while it is not watched', async () => {
    for (const watched of [true, false]) {
      const statuses: number[] = []
      using tap = openTap((status) => status < 0 && statuses.push(status), {
        ...(asked && { kind: asked }),
      })
      tap.device.watch(watched)
      ip('link', 'delete', tap.name)
      await until(() => statuses.length > 0)
      expect(statuses).toEqual([-77])
      tap.length[0] = 60
      expect(tap.write(tap.memory, 1)).toBe(0)
      expect(tap.error[0]).toBe(77)
      expect(tap.read(tap.memory, 64)).toBe(0)
      expect(tap.error[0]).toBe(77)
      expect(() => tap.device.setUp(true)).toThrow(coded('EBADFD', 'TUNGETIFF'))
    }
  })

  test('counts frames that the kernel refuses, and sends the others', () => {
    using tap = openTap(() => {}, { ...(asked && { kind: asked }) })
    tap.start.fill(0)
    tap.length.fill(60)
    expect(tap.write(tap.memory, 64)).toBe(0)
    expect(tap.error[0]).toBe(5) // EIO: the interface is down
    tap.device.setUp(true)
    tap.length[1] = 3
    expect(tap.write(tap.memory, 3)).toBe(2)
    expect(tap.error[0]).toBe(22)
  })
})

describe.skipIf(reason !== undefined)(`the interface of a TAP device${skipped}`, () => {
  test('ends with the device unless it is persistent', () => {
    const tap = openTap()
    const { name, device } = tap
    device.setMtu(9000)
    device.setUp(true)
    expect(ip('link', 'show', name)).toMatch(/UP,LOWER_UP> mtu 9000/)
    device.setCarrier(false)
    expect(ip('link', 'show', name)).toContain('NO-CARRIER')
    device.setUp(false)
    expect(ip('link', 'show', name)).not.toMatch(/[<,]UP/)
    device.setPersistent(true)
    device.close()
    expect(ip('link', 'show', name)).toContain('mtu 9000')
    const again = openTap(() => {}, { name })
    expect(again.name).toBe(name)
    again.device.setPersistent(false)
    again.device.close()
    expect(() => ip('link', 'show', name)).toThrow()
  })

  test('has several queues if asked for', () => {
    const open = (multiQueue: boolean, name = 'xktest%d') =>
      new native.TapDevice(name, multiQueue, 64, () => {})
    const single = open(false)
    expect(() => open(false, single.name())).toThrow(coded('EBUSY', 'TUNSETIFF'))
    single.close()
    const queues = [open(true)]
    queues.push(open(true, queues[0]?.name()))
    for (const queue of queues) queue.close()
  })

  test('wrong arguments are refused', () => {
    using tap = openTap()
    for (const name of ['', 'sixteen-letters!', 'a\0b']) {
      expect(() => openTap(() => {}, { name })).toThrow(coded('ERR_OUT_OF_RANGE', '1..15 bytes'))
    }
    for (const frames of [0, 1025]) {
      expect(() => openTap(() => {}, { frames })).toThrow(coded('ERR_OUT_OF_RANGE', '1..1024'))
    }
    tap.start[1] = tap.memory.length - 59
    tap.length.fill(60)
    expect(() => tap.write(tap.memory, 2)).toThrow(coded('ERR_OUT_OF_RANGE', 'frame 1 is outside'))
    expect(() => tap.write(tap.memory, 65)).toThrow(coded('ERR_OUT_OF_RANGE', '0..64'))
    expect(() => tap.read(tap.memory.subarray(1), 64)).toThrow(
      coded('ERR_OUT_OF_RANGE', 'memory for 64 frames'),
    )
    expect(() => Reflect.apply(tap.write, undefined, [1, 1])).toThrow(
      coded('InvalidArg', 'expected a Uint8Array and a number'),
    )
    expect(() => tap.device.setMtu(1)).toThrow(coded('EINVAL', 'SIOCSIFMTU 1'))
  })

  test('after close, calls are refused', () => {
    const tap = openTap()
    tap.device.close()
    tap.device.close()
    for (const use of [
      () => tap.write(tap.memory, 1),
      () => tap.read(tap.memory, 1),
      () => tap.device.name(),
      () => tap.device.setUp(true),
    ]) {
      expect(use).toThrow(coded('ERR_CLOSED'))
    }
  })
})
