import { expect, test } from 'vitest'
import { readArguments } from '../src/arguments.ts'

const known = ['codec', 'xenstore']

test('all benchmarks run unless some are named', () => {
  expect(readArguments([], known)).toEqual({ names: known, json: undefined })
  expect(readArguments(['xenstore', '--json', 'out.json'], known)).toEqual({
    names: ['xenstore'],
    json: 'out.json',
  })
})

test.each([
  [['xenstor'], 'no benchmark is named "xenstor", there are: codec, xenstore'],
  [['codec', 'toString'], 'no benchmark is named "toString"'],
  [['--jsn', 'out.json'], "Unknown option '--jsn'"],
  [['--json'], "'--json <value>' argument missing"],
])('%j runs nothing', (args, mistake) => {
  const read = readArguments(args, known)
  expect(read.names).toEqual([])
  expect(read.mistake).toContain(mistake)
})
