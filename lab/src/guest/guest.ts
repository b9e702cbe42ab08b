/** A guest of the lab: a Linux domain that runs a scenario's commands. */
import { type Outcome, demandSuccess } from '../dom0/remote-process.ts'
import type { GuestType } from '../stack.ts'
import type { GuestConsole } from './console.ts'

export interface GuestOptions {
  readonly name: string
  /** How the guest is virtualised. Default: as the stack says. */
  readonly type?: GuestType
  /**
   * Lines for xl.cfg's `disk`, such as
   * `format=raw,vdev=xvda,access=w,backendtype=qdisk,target=/tmp/disk`.
   */
  readonly disks?: readonly string[]
  /** Lines for xl.cfg's `vif`, such as `mac=00:16:3e:00:00:01,bridge=xenbr0`. */
  readonly cards?: readonly string[]
  /** `own`, the default, is the stack's kernel. `oldest` is Linux 5.10 from Debian 11. */
  readonly kernel?: 'own' | 'oldest'
  /** Number of virtual processors, default 1. All of them run on the same processor. */
  readonly vcpus?: number
  /**
   * Additional kernel command line, including module parameters:
   * `xen_blkfront.max_ring_page_order=4`.
   */
  readonly kernelArguments?: string
}

/** Settings that all guests of a machine share. */
export interface GuestDefaults {
  readonly type: GuestType
  /** Number of the processor that guests run on: not dom0's, if the machine has two. */
  readonly processor: number
}

export class Guest {
  readonly name: string
  readonly domid: number
  /** Destroys the domain at once, like a power failure. */
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
   * @throws Error when the script's status isn't 0
   */
  async run(script: string, seconds?: number): Promise<string> {
    return demandSuccess(`guest ${this.name}: ${script}`, await this.attempt(script, seconds))
  }

  /**
   * Waits for a block device, which the guest's kernel creates after the backend has connected.
   * Returns its path.
   */
  async disk(vdev: string): Promise<string> {
    // The timeout is in the guest, because the console takes the next command only after this one
    // has ended.
    await this.run(
      `timeout 40 sh -c 'until [ -b /dev/${vdev} ]; do usleep 20000; done' || { dmesg | tail -n 2; false; }`,
    )
    return `/dev/${vdev}`
  }

  /** Waits until a block device is gone. */
  async diskGone(vdev: string): Promise<void> {
    await this.run(`timeout 40 sh -c 'while [ -e /dev/${vdev} ]; do usleep 10000; done'`)
  }

  /**
   * Waits for the network interface of a card, and gives it an address such as `10.0.0.2/24`.
   * Returns when frames can be sent, which is when the backend has connected.
   */
  async card(name: string, address: string): Promise<void> {
    await this.run(
      `timeout 40 sh -c 'until [ -e /sys/class/net/${name} ]; do usleep 20000; done'
       ip addr add ${address} dev ${name}; ip link set ${name} up
       timeout 40 sh -c 'until [ "$(cat /sys/class/net/${name}/carrier)" = 1 ]; do usleep 20000; done' ||
         { dmesg | tail -n 2; false; }`,
    )
  }

  /** Waits until the network interface of a card is gone. */
  async cardGone(name: string): Promise<void> {
    await this.run(`timeout 40 sh -c 'while [ -e /sys/class/net/${name} ]; do usleep 10000; done'`)
  }

  /** Makes the guest's kernel panic. Returns before the panic has happened. */
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
    // The default tsc_mode traps every RDTSC. That is slow on an emulated processor, and breaks
    // RDTSCP in PVH guests.
    tsc_mode: 'native',
    extra:
      `console=hvc0 quiet loglevel=4 mitigations=off panic=1 ${o.kernelArguments ?? ''}`.trimEnd(),
    on_crash: 'destroy',
    on_poweroff: 'destroy',
    on_reboot: 'destroy',
    disk: o.disks ?? [],
    vif: o.cards ?? [],
  }
  // xl.cfg writes strings, numbers and lists of strings as JSON does.
  return Object.entries(settings)
    .map(([name, value]) => `${name} = ${JSON.stringify(value)}\n`)
    .join('')
}
