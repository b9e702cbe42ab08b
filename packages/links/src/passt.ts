/**
 * passt: gives guests the host's network on any machine, without root and without an interface. It
 * is a program of its own that speaks to the guest's frames on one side, and uses ordinary sockets
 * on the other. Each card has a passt of its own.
 *
 * The stream between them has frames, each after its length as 4 bytes, most significant first.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { Socket } from 'node:net'
import type { Card, Frames, Link, PluggedLink } from '@xenkit/frames'
import { LinkError } from './link-error.ts'
import { PasstReceiver } from './passt-receiver.ts'
import { type LinkEvent, Reopening } from './reopening.ts'

/** Bytes of the length before a frame. */
const LENGTH_BYTES = 4
/** Bytes that wait for passt at most; further batches are dropped. */
const QUEUE_BYTES = 1 << 20
/** Number of passt's descriptor that is its end of the stream. */
const STREAM = 3
/** Bytes of passt's last words that an error quotes. */
const WORDS = 500

/** How passt is started. */
export interface PasstOptions {
  /** Path or name of the program. Default `passt`. */
  readonly program?: string
  /**
   * Further arguments of passt, as `['--tcp-ports', '8080:80']`. By default a guest gets its
   * address by DHCP, and reaches what the host reaches.
   */
  readonly args?: readonly string[]
  /** Called when a card's passt ends, can't be started again, or is running again. */
  readonly onEvent?: (event: LinkEvent) => void
}

/** A link that gives each card the host's network. */
export interface PasstLink extends Link {
  /** Number of frames dropped, of all cards, since passt didn't keep up or wasn't running. */
  readonly dropped: number
}

/**
 * Returns a link that starts a passt for each card. Plugging a card in fails with a LinkError if
 * passt can't be started. If passt ends, the card has no carrier until it is running again.
 */
export function openPasst(o: PasstOptions = {}): PasstLink {
  const shared = { options: o, dropped: 0 }
  return {
    get dropped() {
      return shared.dropped
    },
    async plug(card) {
      const passt = new Passt(card, shared)
      await passt.start()
      return passt
    },
  }
}

/** What the cards of a link have in common. */
interface Shared {
  readonly options: PasstOptions
  dropped: number
}

/** A running passt. */
interface Running {
  readonly child: ChildProcess
  readonly stream: Socket
}

/** A card's passt. */
class Passt implements PluggedLink {
  readonly #card: Card
  readonly #shared: Shared
  readonly #reopening: Reopening
  /** Undefined while passt isn't running. */
  #running: Running | undefined
  /** Whether the card takes frames. */
  #up = false
  #paused = false
  /** Whether the card was asked to hold frames back. */
  #full = false
  #closed = false

  constructor(card: Card, shared: Shared) {
    this.#card = card
    this.#shared = shared
    const { onEvent = () => {} } = shared.options
    this.#reopening = new Reopening(card.name, onEvent, () => this.start())
  }

  /** @throws LinkError if passt can't be started */
  async start(): Promise<void> {
    const { program = 'passt', args = [] } = this.#shared.options
    const child = spawn(program, ['--foreground', '--quiet', '--fd', String(STREAM), ...args], {
      stdio: ['ignore', 'ignore', 'pipe', 'pipe'],
    })
    try {
      await once(child, 'spawn')
    } catch (cause) {
      const advice = 'is it installed? Debian has it as the package passt'
      const message = cause instanceof Error ? cause.message : String(cause)
      throw new LinkError(
        `"${program}" can't be started (${message}): ${advice}`,
        { name: program },
        { cause },
      )
    }
    const stream = child.stdio[STREAM]
    if (!(stream instanceof Socket)) throw new TypeError('a pipe of a child process is a socket')
    if (this.#closed) {
      child.kill('SIGKILL')
      return
    }
    this.#follow({ child, stream })
  }

  send(frames: Frames): void {
    const { count, memory, start, length } = frames
    const stream = this.#running?.stream
    if (!stream || stream.writableLength > QUEUE_BYTES) {
      this.#shared.dropped += count
      return
    }
    let bytes = count * LENGTH_BYTES
    for (let i = 0; i < count; i++) bytes += length[i] ?? 0
    // The frames belong to the caller again when this returns, so they are copied.
    const batch = Buffer.allocUnsafe(bytes)
    let at = 0
    for (let i = 0; i < count; i++) {
      const [from, size] = [start[i] ?? 0, length[i] ?? 0]
      at = batch.writeUInt32BE(size, at)
      // A view for each frame, some 100 bytes of heap: JavaScript can't copy a part without.
      batch.set(memory.subarray(from, from + size), at)
      at += size
    }
    if (!stream.write(batch)) this.#hold(true)
  }

  carrier(up: boolean): void {
    this.#up = up
    this.#flow()
  }

  pause(paused: boolean): void {
    this.#paused = paused
    this.#flow()
  }

  async close(): Promise<void> {
    this.#closed = true
    this.#reopening.stop()
    const running = this.#running
    this.#running = undefined
    if (!running) return
    running.stream.destroy()
    if (running.child.exitCode !== null || running.child.signalCode !== null) return
    // passt has nothing to save, and one that is stopped would ignore a milder signal.
    running.child.kill('SIGKILL')
    await once(running.child, 'exit')
  }

  #follow(running: Running): void {
    const { child, stream } = running
    this.#running = running
    let words = ''
    child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      words = (words + text).slice(-WORDS)
    })
    const receiver = new PasstReceiver(this.#card)
    stream.on('data', (chunk: Buffer) => {
      if (this.#running !== running) return
      if (!receiver.receive(chunk)) child.kill('SIGKILL')
    })
    stream.on('drain', () => this.#hold(false))
    // A signal that can't be sent, say.
    child.on('error', (error) => this.#card.fail(error))
    // The process's end follows, and is reported.
    stream.on('error', () => child.kill('SIGKILL'))
    child.on('close', (status, signal) => {
      if (this.#running !== running) return
      this.#running = undefined
      this.#hold(false)
      this.#card.carrier?.(false)
      const how = signal ?? `status ${status}`
      const last = words.trim()
      this.#reopening.lost(
        new LinkError(`passt ended with ${how}${last && `: ${last}`}`, { name: 'passt' }),
      )
    })
    this.#flow()
    this.#card.carrier?.(true)
  }

  /** Lets frames for the card flow while it takes them. */
  #flow(): void {
    const stream = this.#running?.stream
    if (this.#up && !this.#paused) stream?.resume()
    else stream?.pause()
  }

  /** Asks the card to hold its frames back, or to go on. */
  #hold(full: boolean): void {
    if (full === this.#full) return
    this.#full = full
    this.#card.pause?.(full)
  }
}
