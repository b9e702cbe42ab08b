/**
 * A guest's console as a way to run commands: how requests and answers are framed. The other side is
 * lab/guest/init.sh.
 */
import { Transcript } from '../transcript.ts'
import type { Agent, Channel } from '../dom0/agent.ts'
import type { Outcome } from '../dom0/remote-process.ts'

export class GuestConsole {
  readonly #transcript = new Transcript()
  readonly #channel: Channel
  #lastId = 0

  constructor(agent: Agent, terminal: string) {
    this.#channel = agent.openTerminal(terminal, {
      output: (_, text) => this.#transcript.append(text),
      end: () => this.#transcript.end(new Error('the guest is gone')),
      lost: (error) => this.#transcript.end(error),
    })
  }

  /** Waits until the guest's init takes commands. */
  async ready(seconds: number): Promise<void> {
    await this.#transcript.find(/^guest ready\r?$/m, seconds, 'the guest to be ready')
  }

  /** Runs a shell script in the guest. Its two outputs share the console, and so `stdout` here. */
  async run(script: string, seconds: number): Promise<Outcome> {
    const id = ++this.#lastId
    this.#channel.write(requestLine(id, script))
    const match = await this.#transcript.find(answerPattern(id), seconds, `"${script}" to end in the guest`)
    return { stdout: match.groups?.['output'] ?? '', stderr: '', status: Number(match.groups?.['status']) }
  }
}

/** Base64, so that any script is one line, whatever it quotes. */
export function requestLine(id: number, script: string): string {
  return `${id} ${Buffer.from(script).toString('base64')}\n`
}

/** STX ID LF output ETX ID STATUS LF. */
export function answerPattern(id: number): RegExp {
  return new RegExp(`\u0002${id}\n(?<output>[^]*?)\u0003${id} (?<status>\\d+)\n`)
}
