/** dom0 as a scenario uses it: to run programs and to create guests. */
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { within, withResolvers } from '../deadline.ts'
import { GuestConsole } from '../guest/console.ts'
import { Guest, type GuestDefaults, type GuestOptions, xlConfig } from '../guest/guest.ts'
import type { Agent } from './agent.ts'
import { type Outcome, RemoteProcess, demandSuccess } from './remote-process.ts'

/**
 * Timeout for `xl create` until the guest is ready: twice what that takes on two busy processors.
 */
const GUEST_BOOT_SECONDS = 90

export class Dom0 {
  readonly #agent: Agent
  readonly #out: string
  readonly #defaults: GuestDefaults
  readonly #guests: Guest[] = []
  /** Functions that are called when a guest's kernel has failed. */
  readonly #watchers = new Set<(error: Error) => void>()

  /** @param out the host's path of the folder that dom0 mounts as /lab/out */
  constructor(agent: Agent, out: string, defaults: GuestDefaults) {
    this.#agent = agent
    this.#out = out
    this.#defaults = defaults
  }

  /**
   * Starts a command in its own shell (`bash -e -o pipefail`). Its working directory is /tmp, which
   * is in memory.
   */
  spawn(command: string): RemoteProcess {
    return new RemoteProcess(this.#agent, command)
  }

  /** Runs a command in dom0 until it ends, whatever its status. */
  attempt(command: string, seconds = 60): Promise<Outcome> {
    return within(seconds, `"${command}" to end in dom0`, this.spawn(command).ended)
  }

  /**
   * Runs a command in dom0 until it ends, and returns its standard output without the last line
   * feed.
   * @throws Error when the command's status isn't 0
   */
  async run(command: string, seconds?: number): Promise<string> {
    return demandSuccess(command, await this.attempt(command, seconds))
  }

  /**
   * Waits until `condition`, a shell command, succeeds, and returns its output. The command runs at
   * each event of a xenstore watch on `path`. The watch's first event comes at once, so no change
   * is missed.
   */
  async when(path: string, condition: string, seconds = 30): Promise<string> {
    const watch = this.spawn(
      `xenstore-watch ${path} | while read -r _; do output=$(${condition} 2>&1) && echo "<$output>"; done`,
    )
    try {
      const [, output = ''] = await watch.output(/^<([^]*?)>$/m, seconds)
      return output
    } catch (cause) {
      throw new Error(
        `"${condition}" did not come true in dom0 within ${seconds} s of watching ${path}`,
        { cause },
      )
    } finally {
      watch.signal('SIGTERM')
    }
  }

  /** Creates a guest and waits until it accepts commands. */
  async createGuest(o: GuestOptions): Promise<Guest> {
    await writeFile(join(this.#out, `${o.name}.cfg`), xlConfig(o, this.#defaults))
    await this.run(`xl create -q /lab/out/${o.name}.cfg`, GUEST_BOOT_SECONDS)
    const { guest, console } = await this.#meet(o.name)
    await console.ready(GUEST_BOOT_SECONDS)
    return guest
  }

  /** Restores a guest from a file that `xl save` wrote. The guest continues with another domid. */
  async restoreGuest(name: string, file: string): Promise<Guest> {
    await this.run(`xl restore ${file}`, GUEST_BOOT_SECONDS)
    return (await this.#meet(name)).guest
  }

  /**
   * Runs `work`. Rejects as soon as a guest's kernel fails, because `work` would wait for the guest
   * in vain.
   */
  async watchingGuests<T>(work: () => Promise<T>): Promise<T> {
    const { promise: failure, reject } = withResolvers<never>()
    this.#watchers.add(reject)
    try {
      return await Promise.race([work(), failure])
    } finally {
      this.#watchers.delete(reject)
    }
  }

  /**
   * Saves the messages of dom0's and the guests' kernels with the other logs. Leaves out kernels
   * that don't respond any more.
   */
  async saveKernelLogs(): Promise<void> {
    const guests = this.#guests.map(async (guest) => {
      const { stdout } = await guest.attempt('dmesg | tail -n 50', 10)
      await writeFile(join(this.#out, `kernel-${guest.name}-${guest.domid}.log`), stdout)
    })
    await Promise.allSettled([...guests, this.attempt('dmesg > /lab/out/kernel-dom0.log', 10)])
  }

  async #meet(name: string): Promise<{ guest: Guest; console: GuestConsole }> {
    const domid = Number(await this.run(`xl domid ${name}`))
    const console = new GuestConsole(this.#agent, {
      guest: name,
      terminal: await this.#terminal(domid),
      failed: (error) => this.#watchers.forEach((watcher) => watcher(error)),
    })
    const destroy = async (): Promise<void> => void (await this.run(`xl destroy ${domid}`))
    const guest = new Guest({ name, domid, console, destroy })
    this.#guests.push(guest)
    return { guest, console }
  }

  /** Path of the pseudo terminal that xenconsoled opened for a guest. */
  #terminal(domid: number): Promise<string> {
    const node = `/local/domain/${domid}/console/tty`
    return this.when(node, `xenstore-read ${node} | grep /dev`)
  }
}
