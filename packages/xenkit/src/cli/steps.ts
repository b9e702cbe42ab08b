/**
 * Prints a command's steps on stderr. On a terminal, the current step's line is redrawn in place.
 */
import { paint } from './paint.ts'

/**
 * Milliseconds between progress reports: `REDRAW_MS` on a terminal, where a line is redrawn in
 * place, and `REPEAT_MS` elsewhere, where each report is a new line.
 */
const REDRAW_MS = 100
const REPEAT_MS = 10_000

export class Steps {
  readonly #stream = process.stderr
  #running = ''
  #shownAt = -Infinity

  /** Starts a step. */
  start(text: string): void {
    this.#shownAt = -Infinity
    this.progress(text)
  }

  /** Shows the progress of the current step. */
  progress(text: string): void {
    this.#running = text
    const now = performance.now()
    if (now - this.#shownAt < (this.#width > 0 ? REDRAW_MS : REPEAT_MS)) return
    this.#shownAt = now
    const line = `- ${text}`
    this.#stream.write(this.#width > 0 ? `\r${line.slice(0, this.#width - 1)}\x1b[K` : `${line}\n`)
  }

  succeed(text: string): void {
    this.say(`${paint('green', '✔', this.#stream)} ${text}`)
  }

  /** Marks the current step as failed. */
  fail(): void {
    this.say(`${paint('red', '✖', this.#stream)} ${this.#running}`)
  }

  /** Prints a permanent line, above the current step's line. */
  say(line: string): void {
    this.#stream.write(`${this.#width > 0 ? '\r\x1b[K' : ''}${line}\n`)
  }

  /** Columns of the terminal, or 0 if lines can't be redrawn in place. Some terminals report 0. */
  get #width(): number {
    return this.#stream.isTTY && process.env['TERM'] !== 'dumb' ? this.#stream.columns : 0
  }
}
