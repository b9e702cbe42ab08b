import fc from 'fast-check'
import { expect, test } from 'vitest'
import { RequestQueue } from '../src/request-queue.ts'

test('one request is in flight until it is answered', () => {
  fc.assert(
    fc.property(fc.array(fc.constantFrom('request', 'answer'), { maxLength: 60 }), (steps) => {
      const asked: Uint8Array[] = []
      const sent: Uint8Array[] = []
      const queue = new RequestQueue((request) => sent.push(request))
      let answered = 0
      for (const what of steps) {
        if (what === 'request') {
          asked.push(Uint8Array.of(asked.length))
          queue.push(asked.at(-1) ?? new Uint8Array())
        } else if (answered < sent.length) {
          answered++
          queue.answered()
        }
        expect(sent.length).toBe(Math.min(asked.length, answered + 1))
        expect(sent).toEqual(asked.slice(0, sent.length))
      }
    }),
  )
})
