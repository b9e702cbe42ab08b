/**
 * A benchmark's program in any language, run as a process on its own processor. The program prints
 * a line when it is ready. Then it answers each line on its standard input with a line of JSON, and
 * exits when the input ends.
 */
import { type ChildProcessByStdio, spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface, type Interface } from 'node:readline'
import type { Readable, Writable } from 'node:stream'
import { within } from '@xenkit/lab'

/** Seconds to wait for an answer: longer than any answer takes. */
const PATIENCE_SECONDS = 120
/** Milliseconds that the program may take to exit after its input has ended. */
const GRACE_MS = 5_000

/** Number of one processor, or several in taskset's format, such as `0,1`. */
export type Cpus = number | string

export class Program implements AsyncDisposable {
  readonly #name: string
  readonly #process: ChildProcessByStdio<Writable, Readable, null>
  readonly #lines: Interface
  readonly #ended: Promise<never>

  private constructor(cpus: Cpus, argv: readonly string[]) {
    this.#name = `"${argv.join(' ')}"`
    // setpriv execs taskset, which execs the program. So the kernel kills the program when this
    // process ends for any reason.
    this.#process = spawn(
      'setpriv',
      ['--pdeathsig', 'KILL', 'taskset', '--cpu-list', String(cpus), ...argv],
      { stdio: ['pipe', 'pipe', 'inherit'] },
    )
    this.#process.stdin.on('error', () => {}) // an exited program is reported by #ended
    this.#lines = createInterface({ input: this.#process.stdout })
    this.#ended = once(this.#process, 'close').then(([status, signal]) => {
      throw new Error(`${this.#name} ended with ${status ?? signal}`)
    })
    this.#ended.catch(() => {}) // a caller that waits for an answer gets the error
  }

  static async start(cpus: Cpus, argv: readonly string[]): Promise<Program> {
    const program = new Program(cpus, argv)
    await program.#line()
    return program
  }

  get pid(): number {
    // `start` has awaited the first line, so the process has a pid.
    return this.#process.pid ?? Number.NaN
  }

  /** Sends a request and resolves to its answer. Only one request may be in flight. */
  async ask<T>(request = ''): Promise<T> {
    const answer = this.#line()
    this.#process.stdin.write(`${request}\n`)
    return JSON.parse(await answer) as T
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#process.stdin.end()
    // Kills the program after a while: it may be waiting for another program that has failed, and
    // then doesn't notice the end of its input.
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
