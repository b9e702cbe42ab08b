/**
 * The host's end of the connection to the agent in dom0: opens channels and passes each report to
 * its channel.
 */
import { appendFileSync } from 'node:fs'
import { once } from 'node:events'
import { type Socket, createServer } from 'node:net'
import { encodeLine, lineReader } from '../../dom0/agent/json-lines.ts'
import type { Report, Request, Stream } from '../../dom0/agent/messages.ts'
import { withResolvers } from '../deadline.ts'

/** Receives what the agent reports about one channel. */
export interface Receiver {
  output(stream: Stream, text: string): void
  end(status: number): void
  /** Called when the connection to the agent is lost, and the channel with it. */
  lost(error: Error): void
}

/** An open channel. */
export interface Channel {
  write(text: string): void
  signal(signal: NodeJS.Signals): void
}

export class Agent {
  /** Resolves when dom0 has booted and its agent accepts requests. */
  readonly ready: Promise<void>
  readonly #receivers = new Map<number, Receiver>()
  readonly #log: string
  readonly #markReady: () => void
  #socket: Socket | undefined
  #lost: Error | undefined
  #lastId = 0

  private constructor(log: string) {
    this.#log = log
    const { promise, resolve } = withResolvers<void>()
    this.ready = promise
    this.#markReady = () => resolve(undefined)
  }

  /**
   * Listens on a unix socket for one connection from QEMU, which is the agent's port. `log` is the
   * path of a file that gets every message.
   */
  static async listen(path: string, log: string): Promise<Agent> {
    const agent = new Agent(log)
    const server = createServer((socket) => {
      server.close()
      agent.#attach(socket)
    })
    // The server is unreferenced, because QEMU's process keeps this process running.
    await once(server.listen(path).unref(), 'listening')
    return agent
  }

  spawn(command: string, receiver: Receiver): Channel {
    return this.#open({ type: 'spawn', id: ++this.#lastId, command }, receiver)
  }

  openTerminal(path: string, receiver: Receiver): Channel {
    return this.#open({ type: 'open', id: ++this.#lastId, path }, receiver)
  }

  /** Fails every channel, including those opened later, because the machine has ended. */
  lose(why: string): void {
    this.#lost = new Error(why)
    for (const receiver of this.#receivers.values()) receiver.lost(this.#lost)
    this.#receivers.clear()
  }

  #attach(socket: Socket): void {
    this.#socket = socket
    socket.on(
      'data',
      lineReader((line) => {
        this.#note('dom0', line)
        this.#deliver(JSON.parse(line))
      }),
    )
    // The socket's other end is QEMU. Whoever started QEMU knows why it has ended and calls `lose`.
    socket.on('error', () => {})
  }

  #deliver(report: Report): void {
    if (report.type === 'ready') return this.#markReady()
    const receiver = this.#receivers.get(report.id)
    if (report.type === 'output') return receiver?.output(report.stream, report.text)
    this.#receivers.delete(report.id)
    receiver?.end(report.status)
  }

  #open(request: Request, receiver: Receiver): Channel {
    const { id } = request
    if (this.#lost) receiver.lost(this.#lost)
    else this.#receivers.set(id, receiver)
    this.#send(request)
    return {
      write: (text) => this.#send({ type: 'write', id, text }),
      signal: (signal) => this.#send({ type: 'signal', id, signal }),
    }
  }

  #send(request: Request): void {
    const line = encodeLine(request)
    this.#note('host', line.trimEnd())
    // After the machine has ended the request is ignored, because `lost` has told the receiver.
    this.#socket?.write(line)
  }

  #note(who: string, line: string): void {
    appendFileSync(this.#log, `${(performance.now() / 1000).toFixed(3)} ${who} ${line}\n`)
  }
}
