/**
 * A program of a benchmark, in any language, as a process on a processor of its own. It prints a
 * line when it is ready, then answers each line on its standard input with a line of JSON, and ends
 * where there are no more.
 */
import { type ChildProcessByStdio, spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface, type Interface } from 'node:readline'
import type { Readable, Writable } from 'node:stream'
import { within } from '@xenkit/lab'

/** More than anything takes. */
const PATIENCE_SECONDS = 120
/** For ending, where the input has. */
const GRACE_MS = 5_000

/** One, or several as taskset has them: `0,1`. */
export type Cpus = number | string

export class Program implements AsyncDisposable {
  readonly #name: string
  readonly #process: ChildProcessByStdio<Writable, Readable, null>
  readonly #lines: Interface
  readonly #ended: Promise<never>

  private constructor(cpus: Cpus, argv: readonly string[]) {
    this.#name = `"${argv.join(' ')}"`
    // setpriv becomes taskset, which becomes the program: the kernel ends it with this process,
    // however that ends.
    this.#process = spawn(
      'setpriv',
      ['--pdeathsig', 'KILL', 'taskset', '--cpu-list', String(cpus), ...argv],
      { stdio: ['pipe', 'pipe', 'inherit'] },
    )
    this.#process.stdin.on('error', () => {}) // a program that ended is told of by #ended
    this.#lines = createInterface({ input: this.#process.stdout })
    this.#ended = once(this.#process, 'close').then(([status, signal]) => {
      throw new Error(`${this.#name} ended with ${status ?? signal}`)
    })
    this.#ended.catch(() => {}) // whoever waits for an answer is told
  }

  static async start(cpus: Cpus, argv: readonly string[]): Promise<Program> {
    const program = new Program(cpus, argv)
    await program.#line()
    return program
  }

  get pid(): number {
    // It has started, and so it has one.
    return this.#process.pid ?? Number.NaN
  }

  /** One at a time. */
  async ask<T>(request = ''): Promise<T> {
    const answer = this.#line()
    this.#process.stdin.write(`${request}\n`)
    return JSON.parse(await answer) as T
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#process.stdin.end()
    // One that waits for another that failed doesn't look at its input.
    const timer = setTimeout(() => this.#process.kill('SIGKILL'), GRACE_MS)
    await this.#ended.catch(() => {})
    clearTimeout(timer)
  }

  async #line(): Promise<string> {
    const [line] = await within(
      PATIENCE_SECONDS,
      `an answer of ${this.#name}`,
      Promise.race([once(this.#lines, 'line'), this.#ended]),
    )
    return String(line)
  }
}
