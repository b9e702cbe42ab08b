import * as fc from 'fast-check'
import { expect, test } from 'vitest'
import { encodeLine, lineReader } from '../../dom0/agent/json-lines.ts'

test('objects survive any split of the stream, even within a character', () => {
  fc.assert(
    fc.property(
      fc.array(fc.record({ text: fc.string({ unit: 'binary' }) })),
      fc.array(fc.nat(50)),
      (objects, cuts) => {
        const received: unknown[] = []
        const read = lineReader((line) => received.push(JSON.parse(line)))
        let bytes = Buffer.from(objects.map(encodeLine).join(''))
        for (const cut of cuts) {
          read(bytes.subarray(0, cut))
          bytes = bytes.subarray(cut)
        }
        read(bytes)
        expect(received).toEqual(objects)
      },
    ),
  )
})

test('an incomplete line is not delivered', () => {
  const lines: string[] = []
  const read = lineReader((line) => lines.push(line))
  read(Buffer.from('{"a":1}\n{"b"'))
  expect(lines).toEqual(['{"a":1}'])
})
