import { expect, test, vi } from 'vitest'
import { type Transport, XenstoreStream } from '../src/xenstore-stream.ts'

function open(send: Transport['send'] = () => {}) {
  const heard = {
    data: vi.fn<(bytes: Uint8Array) => void>(),
    closed: vi.fn<(reason: Error) => void>(),
  }
  const transport = { send: vi.fn<Transport['send']>(send), shut: vi.fn<() => void>() }
  const ended = vi.fn<(stream: XenstoreStream) => void>()
  return { heard, transport, ended, stream: new XenstoreStream(heard, () => transport, ended) }
}

test('delivers until it is closed, and nothing afterwards', () => {
  const { heard, transport, ended, stream } = open()
  stream.received(Uint8Array.of(1))
  stream.close()
  stream.close()
  stream.received(Uint8Array.of(2))
  stream.lost(new Error('late'))
  stream.write(Uint8Array.of(3))
  expect(heard.data.mock.calls).toEqual([[Uint8Array.of(1)]])
  expect(heard.closed).not.toHaveBeenCalled()
  expect(transport.send).not.toHaveBeenCalled()
  expect(transport.shut).toHaveBeenCalledOnce()
  expect(ended).toHaveBeenCalledExactlyOnceWith(stream)
})

test('reports only the first loss', () => {
  const { heard, transport, ended, stream } = open()
  stream.lost(new Error('first'))
  stream.lost(new Error('second'))
  expect(heard.closed.mock.calls).toEqual([[new Error('first')]])
  expect(transport.shut).toHaveBeenCalledOnce()
  expect(ended).toHaveBeenCalledOnce()
})

test('a write that fails loses the stream, but not during the write', async () => {
  const { heard, stream } = open(() => {
    throw new Error('full')
  })
  stream.write(Uint8Array.of(1))
  stream.write(Uint8Array.of(1))
  expect(heard.closed).not.toHaveBeenCalled()
  await Promise.resolve()
  expect(heard.closed.mock.calls).toEqual([[new Error('full')]])
})
