/**
 * What a benchmark finds out: a number per round, of which the median counts, and the gate that it
 * has to pass.
 */
import { median } from './median.ts'
import type { Report } from './report.ts'

export type Gate = { readonly atLeast: number } | { readonly atMost: number }

export interface Figure {
  /** What is compared: `pipelined reads, ours / libxenstore`. */
  readonly name: string
  readonly values: readonly number[]
  /** Absent: for information. */
  readonly gate?: Gate
  /** Where it is to get: shown, never failed. Only without a gate. */
  readonly goal?: Gate
  /** What the values are made of, for a reader. */
  readonly detail?: string
}

/** Without a gate there is nothing to fail. */
export const passes = ({ values, gate }: Figure): boolean => !gate || meets(values, gate)

export function meets(values: readonly number[], gate: Gate): boolean {
  const value = median(values)
  return 'atMost' in gate ? value <= gate.atMost : value >= gate.atLeast
}

/** Three digits. */
export const short = (value: number): string => String(Number(value.toPrecision(3)))

const columns = (
  name: string,
  value: string,
  spread: string,
  gate: string,
  detail: string,
): string =>
  `${name.padEnd(58)}${value.padStart(8)}  ${spread.padEnd(18)}${gate.padEnd(10)}${detail}`.trimEnd()

export const header = columns('', 'median', 'min .. max', 'gate', '')

/** One line of the table. */
export function format(figure: Figure): string {
  const { name, values, gate, goal, detail = '' } = figure
  const spread =
    values.length > 1 ? `${short(Math.min(...values))} .. ${short(Math.max(...values))}` : ''
  return columns(
    name,
    short(median(values)),
    spread,
    gate ? formatGate(gate) : goal ? `(${formatGate(goal)})` : '',
    detail,
  )
}

export const formatGate = (gate: Gate): string =>
  'atMost' in gate ? `<= ${gate.atMost}` : `>= ${gate.atLeast}`

/** One line of a report. */
export function reportFigure(figure: Figure, report: Report): void {
  const line = format(figure)
  if (!figure.gate) report.note(`      ${line}`)
  else if (passes(figure)) report.pass(line)
  else report.fail(line)
}
