/** A command's steps on stderr. On a terminal the one that runs is a line that is written over. */
import { paint } from './paint.ts'

/** How often a step tells how far it is: by a line that is written over, and by lines that stay. */
const REDRAW_MS = 100
const REPEAT_MS = 10_000

export class Steps {
  readonly #stream = process.stderr
  #running = ''
  #shownAt = -Infinity

  /** A step begins. */
  start(text: string): void {
    this.#shownAt = -Infinity
    this.progress(text)
  }

  /** How far it is. */
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

  /** The step that runs has failed. */
  fail(): void {
    this.say(`${paint('red', '✖', this.#stream)} ${this.#running}`)
  }

  /** A line that stays, above that of the step. */
  say(line: string): void {
    this.#stream.write(`${this.#width > 0 ? '\r\x1b[K' : ''}${line}\n`)
  }

  /** Columns of a terminal that can write over a line; else 0, as some terminals say themselves. */
  get #width(): number {
    return this.#stream.isTTY && process.env['TERM'] !== 'dumb' ? this.#stream.columns : 0
  }
}
