/**
 * The transport over /dev/xen/xenbus, with a driver that accepts and refuses writes as Linux's
 * does.
 */
import { loadNative, type Native, type XenbusDevice } from '@xenkit/native'
import { XS, XsPacker, XsParser } from '@xenkit/wire'
import fc from 'fast-check'
import { expect, onTestFinished, test } from 'vitest'
import { XenArena } from '../src/arena.ts'
import { DEVICES } from '../src/devices.ts'
import { XenbusTransport } from '../src/xenbus-transport.ts'
import { XenstoreStream } from '../src/xenstore-stream.ts'

interface Message {
  readonly type: number
  readonly reqId: number
  readonly payload: string
}

const messages = (into: Message[]): XsParser =>
  new XsParser((type, reqId, _txId, payload) => {
    into.push({ type, reqId, payload: Buffer.from(payload).toString('latin1') })
  })

function packed({ type, reqId, payload }: Message): Uint8Array {
  const packer = new XsPacker()
  packer.append(type, reqId, 0, payload)
  return packer.take().slice()
}

/**
 * Opens a client's stream over a simulated driver, which records the messages and sends replies.
 */
function open(o: { readonly refuses?: (message: Message) => string | undefined } = {}) {
  const real = loadNative()
  const taken: Message[] = []
  const heard: Message[] = []
  let lost: Error | undefined
  let give = (_bytes: Uint8Array): void => {}
  class Driver implements XenbusDevice {
    closed = false

    constructor(_arena: unknown, _path: string, page: number, onData: (count: number) => void) {
      give = (bytes) => {
        if (this.closed) return
        new Uint8Array(arena.buffer, page, bytes.length).set(bytes)
        onData(bytes.length)
      }
    }

    write(bytes: Uint8Array): void {
      const before = taken.length
      messages(taken).push(bytes)
      const [message] = taken.slice(before)
      const errno = message && o.refuses?.(message)
      if (errno === undefined) return
      taken.pop()
      throw Object.assign(new Error(`write to the xenbus device: ${errno}`), { code: errno })
    }

    close(): void {
      this.closed = true
    }
  }
  const native: Native = { ...real, Arena: real.Arena, XenbusDevice: Driver }
  const arena = new XenArena(native, 1)
  const parser = messages(heard)
  const receiver = {
    data: (bytes: Uint8Array) => parser.push(bytes),
    closed: (reason: Error) => {
      lost = reason
    },
  }
  const connect = (made: XenstoreStream) => new XenbusTransport(native, arena, made, DEVICES.xenbus)
  const stream = new XenstoreStream(receiver, connect, () => {})
  onTestFinished(() => {
    stream.close()
    arena.close()
  })
  return {
    stream,
    taken,
    heard,
    give: (bytes: Uint8Array) => give(bytes),
    get lost() {
      return lost
    },
  }
}

const settled = (): Promise<void> => new Promise((resolve) => setImmediate(resolve))

test('a watch that xenstored refuses is answered with an error, and the stream continues', async () => {
  const device = open({ refuses: ({ type }) => (type === XS.WATCH ? 'E2BIG' : undefined) })
  const write = { type: XS.WRITE, reqId: 1, payload: '/a\0value' }
  const watch = { type: XS.WATCH, reqId: 2, payload: '/a\0token\0' }
  const read = { type: XS.READ, reqId: 3, payload: '/a\0' }
  for (const message of [write, watch, read]) device.stream.write(packed(message))
  device.give(packed({ ...write, payload: 'OK\0' }))
  await settled()
  device.give(packed({ ...read, payload: '1' }))
  expect(device.taken).toEqual([write, read])
  expect(device.heard).toEqual([
    { ...write, payload: 'OK\0' },
    { type: XS.ERROR, reqId: 2, payload: 'E2BIG\0' },
    { ...read, payload: '1' },
  ])
  expect(device.lost).toBeUndefined()
})

test('the stream ends when the device is closed', async () => {
  const device = open({ refuses: () => 'ERR_CLOSED' })
  device.stream.write(packed({ type: XS.READ, reqId: 1, payload: '/a\0' }))
  await settled()
  expect(device.lost?.message).toBe('the hypervisor was closed in this thread')
})

/**
 * Three kinds of requests with their answers: `taken` by the driver, `refused` by the driver, and
 * `kept` away from the driver by the transport.
 */
const kinds = {
  taken: { type: XS.READ, payload: 'a', answer: { type: XS.READ, payload: 'value' } },
  refused: { type: XS.WATCH, payload: 'a', answer: { type: XS.ERROR, payload: 'ENOMEM\0' } },
  kept: { type: XS.RESET_WATCHES, payload: '', answer: { type: XS.ERROR, payload: 'EACCES\0' } },
} as const

test("our own replies go between two of the driver's, however reads split those", async () => {
  const requested = fc.array(fc.constantFrom('taken', 'refused', 'kept'), { maxLength: 20 })
  const cutAt = fc.array(fc.integer({ min: 1, max: 60 }), { minLength: 1 })
  await fc.assert(
    fc.asyncProperty(requested, cutAt, async (requests, cuts) => {
      const device = open({ refuses: ({ type }) => (type === XS.WATCH ? 'ENOMEM' : undefined) })
      const expected = requests.map((kind, reqId) => ({ reqId, ...kinds[kind].answer }))
      for (const [reqId, kind] of requests.entries()) {
        device.stream.write(packed({ reqId, ...kinds[kind] }))
      }
      const replies = (): Message[] => device.heard.filter(({ type }) => type !== XS.WATCH_EVENT)
      let [answered, cut] = [0, 0]
      while (replies().length < expected.length) {
        await settled()
        const reply = device.taken[answered]
        if (!reply) continue
        answered++
        const event = { type: XS.WATCH_EVENT, reqId: 0, payload: 'an event' }
        const bytes = Buffer.concat([packed(event), packed({ ...reply, payload: 'value' })])
        for (let offset = 0; offset < bytes.length; cut++) {
          const next = offset + (cuts[cut % cuts.length] ?? 1)
          device.give(bytes.subarray(offset, next))
          offset = next
          await settled()
        }
      }
      expect(replies().toSorted((a, b) => a.reqId - b.reqId)).toEqual(expected)
      expect(device.lost).toBeUndefined()
    }),
    { numRuns: 50 },
  )
})
