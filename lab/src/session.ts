/**
 * Resources of the host that one scenario uses: a scratch directory and, from `boot` on, a machine.
 */
import { rmSync } from 'node:fs'
import { mkdtemp } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { atExit } from './at-exit.ts'
import type { Programs } from './bundle.ts'
import { within } from './deadline.ts'
import { Agent } from './dom0/agent.ts'
import { Dom0 } from './dom0/dom0.ts'
import type { Image } from './image/image.ts'
import { bundlePrograms } from './programs.ts'
import { type Clock, Machine } from './qemu.ts'
import type { GuestType } from './stack.ts'

/** Seconds allowed for booting, some ten times what it takes. */
const BOOT_SECONDS = 180
const LIFE_SECONDS = 1_200

export interface SessionOptions {
  readonly image: Image
  /** Folder for logs. */
  readonly out: string
  readonly programs: Programs
  /** Default type of guests, `pv` or `pvh`. */
  readonly guests: GuestType
}

export class Session implements AsyncDisposable {
  readonly #o: SessionOptions
  readonly #work: string
  readonly #forgetWork: () => void
  #machine: Machine | undefined
  #dom0: Dom0 | undefined

  private constructor(o: SessionOptions, work: string) {
    this.#o = o
    this.#work = work
    this.#forgetWork = atExit(() => this.#removeWork())
  }

  static async open(o: SessionOptions): Promise<Session> {
    // The directory is in /tmp, because the path of a unix socket has at most 107 bytes and a
    // checkout's path may be longer.
    return new Session(o, await mkdtemp(join(tmpdir(), 'xenkit-lab-')))
  }

  /** Starts the machine and waits for dom0. Call it once per session. */
  async boot(clock: Clock): Promise<Dom0> {
    if (this.#machine) throw new Error('the machine was started already')
    const { image, out } = this.#o
    const programs = join(this.#work, 'programs')
    await bundlePrograms(this.#o.programs, programs)
    const agentSocket = join(this.#work, 'agent')
    const agent = await Agent.listen(agentSocket, join(out, 'agent.log'))
    this.#machine = new Machine({
      image,
      programs,
      out,
      agentSocket,
      clock,
      lifeSeconds: LIFE_SECONDS,
    })
    const failed = this.#machine.ended.then((why) => {
      agent.lose(why)
      throw new Error(why)
    })
    await within(BOOT_SECONDS, 'dom0 to be ready', Promise.race([agent.ready, failed]))
    this.#dom0 = new Dom0(agent, out, { type: this.#o.guests, processor: clock === 'wall' ? 1 : 0 })
    return this.#dom0
  }

  /** See `Dom0.watchingGuests`. */
  watchingGuests<T>(work: () => Promise<T>): Promise<T> {
    return this.#dom0 === undefined ? work() : this.#dom0.watchingGuests(work)
  }

  /** Saves the kernels' messages with the other logs, after a failure. */
  async saveKernelLogs(): Promise<void> {
    await this.#dom0?.saveKernelLogs()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#machine?.[Symbol.asyncDispose]()
    this.#removeWork()
    this.#forgetWork()
  }

  #removeWork(): void {
    rmSync(this.#work, { recursive: true, force: true })
  }
}
