import { XS, XsPacker } from '@xenkit/wire'
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { RequestQueue } from '../src/request-queue.ts'

function message(type: number, reqId: number): Uint8Array {
  const packer = new XsPacker()
  packer.append(type, reqId, 0, 'payload\0')
  return packer.take().slice()
}

test('one request is with the driver until its reply has come, whatever else comes', () => {
  const step = fc.oneof(fc.constant('request' as const), fc.constant('reply' as const), fc.constant('event' as const))
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), fc.integer({ min: 1, max: 40 }), (steps, chunk) => {
      const asked: Uint8Array[] = []
      const sent: Uint8Array[] = []
      const queue = new RequestQueue((request) => sent.push(request))
      let answered = 0
      const hear = (bytes: Uint8Array): void => {
        for (let at = 0; at < bytes.length; at += chunk) queue.received(bytes.subarray(at, at + chunk))
      }
      for (const what of steps) {
        if (what === 'request') {
          asked.push(message(XS.READ, asked.length))
          queue.push(asked.at(-1) ?? new Uint8Array())
        } else if (what === 'event') {
          hear(message(XS.WATCH_EVENT, 0))
        } else if (answered < sent.length) {
          hear(message(XS.READ, answered++))
        }
        expect(sent.length).toBe(Math.min(asked.length, answered + 1))
        expect(sent).toEqual(asked.slice(0, sent.length))
      }
    }),
  )
})
