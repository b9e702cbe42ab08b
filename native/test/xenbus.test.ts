import { expect, onTestFinished, test } from 'vitest'
import { loadNative } from '../index.js'
import { Fifo, until } from './fifo.ts'

const native = loadNative()

function open() {
  const fifo = new Fifo()
  const arena = new native.Arena(4)
  const page = arena.allocate(1)
  const bytes = new Uint8Array(arena.createBuffer(), page, 4096)
  const chunks: Uint8Array[] = []
  const device = new native.XenbusDevice(
    arena,
    fifo.path,
    page,
    (count) => void chunks.push(bytes.slice(0, count)),
  )
  onTestFinished(async () => {
    device.close()
    fifo[Symbol.dispose]()
    await until(() => native.counters().polls === 0 && native.counters().fds === 0)
  })
  return {
    fifo,
    chunks,
    device,
    received: () => chunks.reduce((sum, chunk) => sum + chunk.length, 0),
  }
}

test('delivers the bytes it reads, at most a page at a time', async () => {
  const { fifo, chunks, received } = open()
  const sent = Uint8Array.from({ length: 10_000 }, (_, index) => index)
  fifo.send(sent)
  await until(() => received() === sent.length)
  expect(Buffer.concat(chunks).equals(sent)).toBe(true)
  expect(Math.max(...chunks.map((chunk) => chunk.length))).toBe(4096)
})

test('sends what is written, each write before it returns', async () => {
  const { chunks, device, received } = open()
  const message = new Uint8Array(4096)
  for (let index = 0; index < 10; index++) {
    message.fill(index)
    device.write(message)
    message.fill(255)
  }
  device.write(new Uint8Array())
  await until(() => received() === 10 * message.length)
  const all = Buffer.concat(chunks)
  for (let index = 0; index < 10; index++) {
    expect(all.subarray(index * 4096, (index + 1) * 4096).every((byte) => byte === index)).toBe(
      true,
    )
  }
})

test('throws when the device refuses a message', () => {
  const { device } = open()
  const fill = (): void => {
    for (;;) device.write(new Uint8Array(4096)) // until the fifo is full and the write fails
  }
  expect(fill).toThrow(
    expect.objectContaining({ code: 'EAGAIN', message: 'write to the xenbus device: EAGAIN' }),
  )
})

test('is silent after close, and refuses writes', async () => {
  const { fifo, chunks, device } = open()
  fifo.send(Uint8Array.of(1))
  device.close()
  device.close()
  await new Promise((resolve) => setTimeout(resolve, 20))
  expect(chunks).toEqual([])
  expect(() => device.write(Uint8Array.of(1))).toThrow(
    expect.objectContaining({ code: 'ERR_CLOSED' }),
  )
})
