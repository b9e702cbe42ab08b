/**
 * Draws figures: for each one with a gate or a goal its median and spread, relative to that value.
 * To the right of the middle line is better, for upper and lower limits alike. The scale is
 * logarithmic.
 */
import { type Figure, formatGate, type Gate, meets, short } from './figure.ts'
import { median } from './median.ts'

const [NAMES, SCALE, VALUES, ROW, MARGIN] = [440, 320, 150, 22, 16]
/** Ends of the logarithmic scale: a value this many times better or worse than its gate. */
const FURTHEST = 8

/** @param heading one line above the plot */
export function plot(heading: string, figures: readonly Figure[]): string {
  const judged = figures.flatMap((figure) => {
    const gate = figure.gate ?? figure.goal
    return gate ? [{ figure, gate }] : []
  })
  const [width, height] = [
    NAMES + SCALE + VALUES + 2 * MARGIN,
    (judged.length + 2) * ROW + 2 * MARGIN,
  ]
  const bottom = height - MARGIN - ROW
  const marks = [1 / FURTHEST, 1 / 2, 1, 2, FURTHEST].map(
    (at) =>
      `<path d="M${x(at)} ${MARGIN + ROW}V${bottom}" stroke="${at === 1 ? '#333' : '#ddd'}"/><text x="${x(at)}" y="${bottom + 16}" text-anchor="middle">${at === 1 ? 'as asked' : `× ${at}`}</text>`,
  )
  const rows = judged.map(({ figure, gate }, index) =>
    row(figure, gate, MARGIN + (index + 1.5) * ROW),
  )
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" font-family="sans-serif" font-size="12"><rect width="100%" height="100%" fill="#fff"/>
<text x="${MARGIN}" y="${MARGIN + 10}">${escape(heading)}</text>
${[...marks, ...rows].join('\n')}
</svg>
`
}

function row(figure: Figure, gate: Gate, y: number): string {
  const scores = figure.values.map((value) => score(value, gate))
  const color = meets(figure.values, gate) ? '#2a7' : figure.gate ? '#c33' : '#e90'
  const spread = `<path d="M${x(Math.min(...scores))} ${y}H${x(Math.max(...scores))}" stroke="${color}" stroke-width="3" opacity=".4"/>`
  const middle = `<circle cx="${x(score(median(figure.values), gate))}" cy="${y}" r="5" fill="${color}"/>`
  const value = `${short(median(figure.values))}, ${figure.gate ? 'gate' : 'goal'} ${formatGate(gate)}`
  return `<text x="${MARGIN}" y="${y + 4}">${escape(figure.name)}</text>${spread}${middle}<text x="${MARGIN + NAMES + SCALE + 12}" y="${y + 4}">${escape(value)}</text>`
}

/**
 * The factor by which a value is better than its gate. A value of 0 with an upper limit is
 * infinitely better.
 */
const score = (value: number, gate: Gate): number => {
  if ('atLeast' in gate) return value / gate.atLeast
  return value === 0 ? Infinity : gate.atMost / value
}

function x(times: number): number {
  const share = Math.log(times) / Math.log(FURTHEST)
  return Math.round(MARGIN + NAMES + (SCALE / 2) * (1 + Math.min(1, Math.max(-1, share))))
}

const escape = (text: string): string =>
  text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;')
