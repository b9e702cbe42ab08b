/**
 * A C program that shares memory as a file. It reads a command per line and answers each by a line.
 */
import { spawn, type ChildProcess } from 'node:child_process'
import { createInterface } from 'node:readline'

export class PeerProgram {
  readonly #child: ChildProcess
  readonly #lines: AsyncIterator<string>
  readonly #stdin: NodeJS.WritableStream

  constructor(program: string, ...args: string[]) {
    const child = spawn(program, args, { stdio: ['pipe', 'pipe', 'inherit'] })
    this.#child = child
    this.#stdin = child.stdin
    this.#lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]()
  }

  async answer(): Promise<string> {
    const line = await this.#lines.next()
    if (line.done) throw new Error('the C program ended')
    return line.value
  }

  /** @param ring number of the program's ring that the command is for */
  run(ring: number, command: string): Promise<string> {
    this.#stdin.write(`${ring} ${command}\n`)
    return this.answer()
  }

  close(): void {
    this.#child.kill()
  }
}
