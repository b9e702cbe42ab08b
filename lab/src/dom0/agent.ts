/**
 * The host's end of the wire to the agent in dom0: opens channels and gives each report to the
 * right one.
 */
import { appendFileSync } from 'node:fs'
import { once } from 'node:events'
import { type Socket, createServer } from 'node:net'
import { encodeLine, lineReader } from '../../dom0/agent/json-lines.ts'
import type { Report, Request, Stream } from '../../dom0/agent/messages.ts'
import { withResolvers } from '../deadline.ts'

/** Who gets what a channel reports. */
export interface Receiver {
  output(stream: Stream, text: string): void
  end(status: number): void
  /** The wire is gone, and the channel with it. */
  lost(error: Error): void
}

/** What may be asked of an open channel. */
export interface Channel {
  write(text: string): void
  signal(signal: NodeJS.Signals): void
}

export class Agent {
  /** Resolves when dom0 is up and its agent waits for requests. */
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
   * Listens on a unix socket for one connection: QEMU's, which is the agent's port. `log` gets
   * every message.
   */
  static async listen(path: string, log: string): Promise<Agent> {
    const agent = new Agent(log)
    const server = createServer((socket) => {
      server.close()
      agent.#attach(socket)
    })
    // The machine keeps this process alive, not the socket on which one may connect.
    await once(server.listen(path).unref(), 'listening')
    return agent
  }

  spawn(command: string, receiver: Receiver): Channel {
    return this.#open({ type: 'spawn', id: ++this.#lastId, command }, receiver)
  }

  openTerminal(path: string, receiver: Receiver): Channel {
    return this.#open({ type: 'open', id: ++this.#lastId, path }, receiver)
  }

  /** The machine is gone, and every channel with it, those opened later included. */
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
    // The other end is QEMU itself. Who watches that knows why it is gone, and says so by `lose`.
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
    // Into the void once the machine is gone: whoever waits for an answer has been told.
    this.#socket?.write(line)
  }

  #note(who: string, line: string): void {
    appendFileSync(this.#log, `${(performance.now() / 1000).toFixed(3)} ${who} ${line}\n`)
  }
}
