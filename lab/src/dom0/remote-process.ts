/** A program running in dom0, as the host sees it. */
import { withResolvers, within } from '../deadline.ts'
import { Transcript } from '../transcript.ts'
import type { Agent, Channel, Receiver } from './agent.ts'

/** The result of a program that has ended. */
export interface Outcome {
  readonly status: number
  readonly stdout: string
  readonly stderr: string
}

export class RemoteProcess {
  /** Resolves when the program has ended and all its output has been read. */
  readonly ended: Promise<Outcome>
  readonly #command: string
  readonly #channel: Channel
  readonly #all = new Transcript()

  constructor(agent: Agent, command: string) {
    const { promise, resolve, reject } = withResolvers<Outcome>()
    const written = { stdout: '', stderr: '' }
    const receiver: Receiver = {
      output: (stream, text) => {
        written[stream] += text
        this.#all.append(text)
      },
      end: (status) => {
        this.#all.end(new Error(`"${command}" ended with ${status}: ${this.#lastWords()}`))
        resolve({ status, ...written })
      },
      lost: (error) => {
        this.#all.end(error)
        reject(error)
      },
    }
    this.ended = promise
    // If a scenario doesn't await a background program, its loss with the machine isn't an error.
    promise.catch(() => {})
    this.#command = command
    this.#channel = agent.spawn(command, receiver)
  }

  /**
   * Waits until either output of the program contains a match of `pattern`, which may have been
   * written already.
   */
  output(pattern: RegExp, seconds = 60): Promise<RegExpExecArray> {
    return this.#all.find(
      pattern,
      seconds,
      `"${this.#command}" to write ${pattern}, after: ${this.#lastWords()}`,
    )
  }

  /** Sends a signal to the program and its children. */
  signal(signal: NodeJS.Signals): void {
    this.#channel.signal(signal)
  }

  /** Sends a signal and waits until the program ends. */
  stop(signal: NodeJS.Signals = 'SIGTERM', seconds = 30): Promise<Outcome> {
    this.signal(signal)
    return within(seconds, `"${this.#command}" to end on ${signal}`, this.ended)
  }

  #lastWords(): string {
    return this.#all.text.trim().slice(-500) || 'nothing'
  }
}

/**
 * Returns the output of a command that must succeed, without the last line feed.
 * @throws Error when the command's status isn't 0
 */
export function demandSuccess(command: string, { status, stdout, stderr }: Outcome): string {
  if (status !== 0) {
    throw new Error(
      `"${command}" ended with ${status}: ${`${stdout}${stderr}`.trim().slice(-1000) || 'it wrote nothing'}`,
    )
  }
  return stdout.trimEnd()
}
