/**
 * What a benchmark finds out: a number per round, of which the median counts, and the gate that it
 * has to pass.
 */
import { median } from './median.ts'
import type { Report } from './report.ts'

export type Gate =
  | { readonly atLeast: number; readonly unless?: Exception }
  | { readonly atMost: number }

/** Why a figure below its gate is none of ours, where that is measured in the same run. */
export interface Exception {
  readonly reason: string
  readonly holds: boolean
}

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
  if ('atMost' in gate) return value <= gate.atMost
  return value >= gate.atLeast || gate.unless?.holds === true
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
  const excused =
    gate && 'atLeast' in gate && gate.unless?.holds && median(values) < gate.atLeast
      ? `${gate.unless.reason}. `
      : ''
  return columns(
    name,
    short(median(values)),
    spread,
    gate ? formatGate(gate) : goal ? `(${formatGate(goal)})` : '',
    excused + detail,
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
