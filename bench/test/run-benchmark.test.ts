import { type Figure, Report } from '@xenkit/lab'
import { beforeEach, expect, test, vi } from 'vitest'
import { type Measurement, measure } from '../src/run-benchmark.ts'

let report: Report
let printed: string[]
let measurement: Measurement

beforeEach(() => {
  report = new Report()
  printed = []
  vi.spyOn(console, 'log').mockImplementation((line: string) => void printed.push(line))
  measurement = { what: 'reads', attempts: [] }
})

const figure = (value: number): Figure => ({
  name: `figure ${value}`,
  values: [value, 0, 99],
  gate: { atLeast: 10 },
})

function measuring(...attempts: readonly Figure[][]) {
  const left = [...attempts]
  return async () => left.shift() ?? []
}

test('figures that pass are measured once', async () => {
  await measure(
    measurement,
    measuring([figure(10), { name: 'for information', values: [1] }], [figure(20)]),
    report,
  )
  expect(
    measurement.attempts.map(({ figures }) =>
      figures.map(({ median, passed }) => [median, passed]),
    ),
  ).toEqual([
    [
      [10, true],
      [1, true],
    ],
  ])
  expect(printed.map((line) => line.slice(0, 6))).toEqual(['ok    ', '      '])
  expect(report.total()).toBe('1 passed, 0 failed')
})

test('when a figure fails, the second attempt counts', async () => {
  await measure(measurement, measuring([figure(9), figure(11)], [figure(12), figure(13)]), report)
  expect(measurement.attempts.map(({ figures }) => figures.map(({ median }) => median))).toEqual([
    [9, 11],
    [12, 13],
  ])
  expect(printed[0]).toMatch(/measured again because of\n +figure 9 /)
  expect(report.total()).toBe('2 passed, 0 failed')
})

test('there is no third attempt', async () => {
  await measure(measurement, measuring([figure(9)], [figure(8)], [figure(12)]), report)
  expect(measurement.attempts).toHaveLength(2)
  expect(printed.at(-1)).toMatch(/^FAIL  figure 8 /)
  expect(report.failed).toBe(1)
})
