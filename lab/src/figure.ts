/**
 * A benchmark's result: one value per round, whose median counts, and the gate that the median must
 * pass.
 */
import { median } from './median.ts'
import type { Report } from './report.ts'

export type Gate = { readonly atLeast: number } | { readonly atMost: number }

export interface Figure {
  /** The comparison, such as `pipelined reads, ours / libxenstore`. */
  readonly name: string
  readonly values: readonly number[]
  /** The limit that the median must meet. Without a gate the figure is for information only. */
  readonly gate?: Gate
  /**
   * The value that we aim for. It is shown, but the figure doesn't fail by it. Only for figures
   * without a gate.
   */
  readonly goal?: Gate
  /** The numbers from which the values were computed, as text for the reader. */
  readonly detail?: string
}

/** Whether a figure's median meets its gate. A figure without a gate always passes. */
export const passes = ({ values, gate }: Figure): boolean => !gate || meets(values, gate)

export function meets(values: readonly number[], gate: Gate): boolean {
  const value = median(values)
  return 'atMost' in gate ? value <= gate.atMost : value >= gate.atLeast
}

/** Formats a number with three significant digits. */
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

/** Formats a figure as one line of the table. */
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

/** Adds a figure to a report, as one line. */
export function reportFigure(figure: Figure, report: Report): void {
  const line = format(figure)
  if (!figure.gate) report.note(`      ${line}`)
  else if (passes(figure)) report.pass(line)
  else report.fail(line)
}
