/** A guest of the lab: a Linux that runs what a scenario tells it. */
import { type Outcome, demandSuccess } from '../dom0/remote-process.ts'
import type { GuestType } from '../stack.ts'
import type { GuestConsole } from './console.ts'

export interface GuestOptions {
  readonly name: string
  /** Default: that of the stack. */
  readonly type?: GuestType
  /**
   * Lines of xl.cfg's `disk`, such as
   * `format=raw,vdev=xvda,access=w,backendtype=qdisk,target=/tmp/disk`.
   */
  readonly disks?: readonly string[]
  /** Default `own`, that of the stack. `oldest` is Linux 5.10, of Debian 11. */
  readonly kernel?: 'own' | 'oldest'
  /** Default 1. All of them run on the same processor. */
  readonly vcpus?: number
  /**
   * More of the kernel's command line, where modules find their parameters, too:
   * `xen_blkfront.max_ring_page_order=4`.
   */
  readonly kernelArguments?: string
}

/** What holds for all guests of a machine. */
export interface GuestDefaults {
  readonly type: GuestType
  /** Where they run: not where dom0 does, if there are two. */
  readonly processor: number
}

export class Guest {
  readonly name: string
  readonly domid: number
  /** Ends the domain at once, as if its power failed. */
  readonly destroy: () => Promise<void>
  readonly #console: GuestConsole

  constructor(o: Pick<Guest, 'name' | 'domid' | 'destroy'> & { readonly console: GuestConsole }) {
    this.name = o.name
    this.domid = o.domid
    this.destroy = o.destroy
    this.#console = o.console
  }

  /**
   * Runs a shell script in the guest up to its first failure (`set -e -o pipefail`), whatever its
   * status. Standard error is part of `stdout`.
   */
  attempt(script: string, seconds = 60): Promise<Outcome> {
    return this.#console.run(script, seconds)
  }

  /**
   * Runs a shell script in the guest and returns its output without the last line feed.
   * @throws Error when its status isn't 0
   */
  async run(script: string, seconds?: number): Promise<string> {
    return demandSuccess(`guest ${this.name}: ${script}`, await this.attempt(script, seconds))
  }

  /**
   * Waits for a block device, which the guest's kernel makes after the backend has connected;
   * returns its path.
   */
  async disk(vdev: string): Promise<string> {
    // It ends in the guest, too: the console takes the next command only after that.
    await this.run(
      `timeout 40 sh -c 'until [ -b /dev/${vdev} ]; do usleep 20000; done' || { dmesg | tail -n 2; false; }`,
    )
    return `/dev/${vdev}`
  }

  /** Waits until a block device is gone. */
  async diskGone(vdev: string): Promise<void> {
    await this.run(`timeout 40 sh -c 'while [ -e /dev/${vdev} ]; do usleep 10000; done'`)
  }

  /** Has its kernel panic. Returns before it has. */
  crash(): void {
    this.#console.crash()
  }
}

/** The configuration that `xl create` reads. */
export function xlConfig(o: GuestOptions, defaults: GuestDefaults): string {
  const boot = `/guest/${o.kernel ?? 'own'}`
  const settings: Record<string, string | number | readonly string[]> = {
    name: o.name,
    type: o.type ?? defaults.type,
    kernel: `${boot}/vmlinux`,
    ramdisk: `${boot}/initrd`,
    memory: 192,
    vcpus: o.vcpus ?? 1,
    cpus: String(defaults.processor),
    // The default traps every RDTSC, which is slow where the processor itself is emulated; a PVH
    // guest's RDTSCP then doesn't work at all.
    tsc_mode: 'native',
    extra:
      `console=hvc0 quiet loglevel=4 mitigations=off panic=1 ${o.kernelArguments ?? ''}`.trimEnd(),
    on_crash: 'destroy',
    on_poweroff: 'destroy',
    on_reboot: 'destroy',
    disk: o.disks ?? [],
  }
  // Strings, numbers and lists of strings are written in xl.cfg as in JSON.
  return Object.entries(settings)
    .map(([name, value]) => `${name} = ${JSON.stringify(value)}\n`)
    .join('')
}
