/**
 * A guest and a backend on one machine without Xen: two processes with shared memory, each on its
 * own processor. The guest is front.c, or another program based on served-guest.h. xenkit's backend
 * runs unchanged on the real adapter and addon: devices.c simulates Xen's devices, and xenkit's own
 * xenstored serves xenstore. docs/bench/disk.md has a picture.
 */
import { join } from 'node:path'
import { bundleThreads, command } from '@xenkit/lab'
import { Xenstored } from '@xenkit/sim'
import { listenXenstored } from '@xenkit/sim/socket'
import { plugVbd } from '@xenkit/vbd'
import { xenstoreSocket } from '@xenkit/xen'
import { FrontendDevice } from '@xenkit/xenbus'
import { openXenstore, type XenstoreClient } from '@xenkit/xenstore-client'
import { buildPrograms } from '../src/build-programs.ts'
import { type Cpus, Program } from '../src/program.ts'

type Argument = string | number

// These constants must have the same values as in guest.h.
export const SLOTS = 32
const SEGMENTS_MAX = 256
const DATA_PAGES = 1 + SLOTS
const RING_PAGES = DATA_PAGES + SLOTS * SEGMENTS_MAX

/** Returns the grant reference of the page that holds ring number `ring`. */
export const grefOf = (ring: number): number => 1 + ring * RING_PAGES
/** Returns the grant reference of a ring slot's first data page. */
export const dataGrefOf = (ring: number, slot: number): number =>
  grefOf(ring) + DATA_PAGES + slot * SEGMENTS_MAX
export const portOf = (ring: number): number => 1 + ring

const GUEST = 1

export interface RigOptions {
  /** A folder for the built programs and the sockets. */
  readonly directory: string
  /** Processors for guests and for backends, such as `0` or `0,1`. */
  readonly cpus: { readonly client: Cpus; readonly server: Cpus }
}

export class Rig {
  readonly #o: RigOptions
  readonly #commands: Map<string, readonly string[]>
  readonly #devices: string
  #guests = 0

  private constructor(o: RigOptions, commands: Map<string, readonly string[]>, devices: string) {
    this.#o = o
    this.#commands = commands
    this.#devices = devices
  }

  /** @param folders folders of further programs, in addition to the programs of this folder */
  static async build(o: RigOptions, ...folders: string[]): Promise<Rig> {
    const { directory } = o
    const commands = new Map<string, readonly string[]>()
    for (const folder of [join(import.meta.dirname, 'programs'), ...folders]) {
      for (const [name, argv] of await buildPrograms(folder, { directory, libraries: [] })) {
        commands.set(name, argv)
      }
    }
    await bundleThreads(directory)
    const devices = join(directory, 'devices.so')
    await command('gcc', [
      '-O2',
      '-Wall',
      '-Wextra',
      '-Werror',
      '-shared',
      '-fPIC',
      '-o',
      devices,
      join(import.meta.dirname, 'devices.c'),
    ])
    return new Rig(o, commands, devices)
  }

  /** Starts a guest's program. Its arguments are a socket path to listen on, then `args`. */
  async guest(program: string, ...args: readonly Argument[]): Promise<Guest> {
    const socket = join(this.#o.directory, `guest-${this.#guests++}`)
    const started = await Program.start(this.#o.cpus.client, this.command(program, socket, ...args))
    return { socket, program: started, [Symbol.asyncDispose]: () => started[Symbol.asyncDispose]() }
  }

  /** Starts a C backend for a guest. */
  backend({ socket }: Guest, program: string, ...args: Argument[]): Promise<Program> {
    return Program.start(this.#o.cpus.server, this.command(program, socket, ...args))
  }

  /**
   * Starts a program that uses xenkit. It finds /dev/xen's devices, simulated and connected to the
   * guest, and a xenstored.
   */
  async ours({ socket }: Guest, program: string, ...args: Argument[]): Promise<Ours> {
    const xenstored = await listenXenstored(new Xenstored(), `${socket}-xenstored`)
    const xs = await openXenstore(xenstoreSocket(xenstored.path))
    for (const domid of [0, GUEST]) await xs.write(`/local/domain/${domid}/domid`, String(domid))
    const environment = [
      `LD_PRELOAD=${this.#devices}`,
      `XENKIT_BENCH_GUEST=${socket}`,
      `XENSTORED_PATH=${xenstored.path}`,
    ]
    const started = await Program.start(this.#o.cpus.server, [
      'env',
      ...environment,
      ...this.command(program, ...args),
    ])
    return {
      program: started,
      xs,
      async [Symbol.asyncDispose]() {
        await started[Symbol.asyncDispose]()
        xs.close()
        await xenstored.close()
      },
    }
  }

  /** Returns the command line that runs a program. */
  command(program: string, ...args: readonly Argument[]): string[] {
    return [...(this.#commands.get(program) ?? []), ...args.map(String)]
  }
}

export interface Guest extends AsyncDisposable {
  readonly socket: string
  readonly program: Program
}

export interface Ours extends AsyncDisposable {
  readonly program: Program
  readonly xs: XenstoreClient
}

export interface DiskOptions {
  /** Number of the guest's disk, from 0. */
  readonly number: number
  /** Numbers of the guest's rings that are the disk's queues. */
  readonly rings: readonly number[]
  readonly image: string
}

/**
 * Gives the guest a disk: writes all the xenstore nodes that the toolstack and the frontend write.
 */
export async function connectDisk(
  xs: XenstoreClient,
  { number, rings, image }: DiskOptions,
): Promise<void> {
  // The first disk is xvdq, because from there on the numbering has room for all disks.
  const devid = (1 << 28) | ((16 + number) << 8)
  await plugVbd(xs, {
    frontendDomid: GUEST,
    backendDomid: 0,
    vdev: String(devid),
    readOnly: false,
    params: image,
  })
  const device = await FrontendDevice.open(xs, { domid: GUEST, type: 'vbd', devid })
  const queues = rings.map((ring, queue) => {
    const prefix = rings.length === 1 ? '' : `queue-${queue}/`
    return {
      [`${prefix}ring-ref`]: String(grefOf(ring)),
      [`${prefix}event-channel`]: String(portOf(ring)),
    }
  })
  await device.publish({
    'multi-queue-num-queues': String(rings.length),
    protocol: 'x86_64-abi',
    'feature-persistent': '1',
    ...Object.assign({}, ...queues),
  })
  await device.connected()
}
