/**
 * Runs commands over a guest's console: the framing of requests and answers. The other side is
 * lab/guest/init.sh.
 */
import { Transcript } from '../transcript.ts'
import type { Agent, Channel } from '../dom0/agent.ts'
import type { Outcome } from '../dom0/remote-process.ts'

export interface ConsoleOptions {
  /** The guest's name. */
  readonly guest: string
  /** Path of the guest's pseudo terminal in dom0. */
  readonly terminal: string
  /** Called once when the guest's kernel reports a fault. */
  readonly failed: (error: Error) => void
}

export class GuestConsole {
  readonly #transcript = new Transcript()
  readonly #channel: Channel
  readonly #o: ConsoleOptions
  #lastId = 0
  #watched = true

  constructor(agent: Agent, o: ConsoleOptions) {
    this.#o = o
    this.#channel = agent.openTerminal(o.terminal, {
      output: (_, text) => {
        this.#transcript.append(text)
        this.#look()
      },
      end: () => this.#transcript.end(new Error('the guest is gone')),
      lost: (error) => this.#transcript.end(error),
    })
  }

  /** Waits until the guest's init accepts commands. */
  async ready(seconds: number): Promise<void> {
    await this.#transcript.find(/^guest ready\r?$/m, seconds, 'the guest to be ready')
  }

  /**
   * Runs a shell script in the guest. Standard output and standard error both go to the console, so
   * `stdout` of the result has both.
   */
  async run(script: string, seconds: number): Promise<Outcome> {
    const id = ++this.#lastId
    this.#channel.write(requestLine(id, script))
    const match = await this.#transcript.find(
      answerPattern(id),
      seconds,
      `"${script}" to end in the guest`,
    )
    return {
      stdout: match.groups?.['output'] ?? '',
      stderr: '',
      status: Number(match.groups?.['status']),
    }
  }

  /** Makes the guest's kernel panic. That panic doesn't count as a failure. */
  crash(): void {
    this.#watched = false
    this.#channel.write(requestLine(++this.#lastId, 'echo c > /proc/sysrq-trigger'))
  }

  #look(): void {
    const fault = this.#watched ? kernelFault(this.#transcript.text) : undefined
    if (fault === undefined) return
    this.#watched = false
    const error = new Error(`the kernel of guest ${this.#o.guest} failed: ${fault}`)
    this.#transcript.end(error)
    this.#o.failed(error)
  }
}

/**
 * A kernel's report of the fault that ended it or one of its tasks, in one line; undefined until
 * the report is complete.
 */
export function kernelFault(text: string): string | undefined {
  if (!/\[#\d+\][^]*---\[ end trace|Kernel panic - not syncing: [^\n]*\n/.test(text)) {
    return undefined
  }
  // The first "RIP" is the place of the fault, a second one is the interrupted code.
  const parts = [/(?:BUG: |kernel BUG at |general protection fault).*/, /RIP: .*/, /Kernel panic.*/]
  return parts.flatMap((part) => part.exec(text)?.[0] ?? []).join('; ')
}

/** Returns the line that requests a script. Base64 makes one line of any script. */
export function requestLine(id: number, script: string): string {
  return `${id} ${Buffer.from(script).toString('base64')}\n`
}

/** Matches the answer to request `id`: STX ID LF output ETX ID STATUS LF. */
export function answerPattern(id: number): RegExp {
  return new RegExp(`\u0002${id}\n(?<output>[^]*?)\u0003${id} (?<status>\\d+)\n`)
}
