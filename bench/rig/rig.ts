/**
 * A guest and a backend on one machine without Xen: two processes over shared memory, each on a processor of its
 * own. The guest is front.c, or another program after served-guest.h. A backend of ours runs unchanged, on the real adapter
 * and addon: its devices are those of devices.c, its xenstored is the embedded one. docs/bench/disk.md has the picture.
 */
import { join } from 'node:path'
import { command } from '@xenkit/lab'
import { Xenstored } from '@xenkit/sim'
import { listenXenstored } from '@xenkit/sim/socket'
import { parseVdev, plugVbd } from '@xenkit/vbd'
import { xenstoreSocket } from '@xenkit/xen'
import { FrontendDevice } from '@xenkit/xenbus'
import { openXenstore, type XenstoreClient } from '@xenkit/xenstore-client'
import type { Bench } from '../src/benchmark.ts'
import { buildPrograms } from '../src/build-programs.ts'
import { Program } from '../src/program.ts'

type Argument = string | number

// As guest.h has it.
export const SLOTS = 32
const SEGMENTS_MAX = 256
const DATA_PAGES = 1 + SLOTS
const RING_PAGES = DATA_PAGES + SLOTS * SEGMENTS_MAX

/** Reference of the page with a ring, counted from 0. */
export const grefOf = (ring: number): number => 1 + ring * RING_PAGES
/** Reference of the first page that a slot's data goes to. */
export const dataGrefOf = (ring: number, slot: number): number => grefOf(ring) + DATA_PAGES + slot * SEGMENTS_MAX
export const portOf = (ring: number): number => 1 + ring

const GUEST = 1

export class Rig {
  readonly #bench: Bench
  readonly #commands: Map<string, readonly string[]>
  readonly #devices: string
  #guests = 0

  private constructor(bench: Bench, commands: Map<string, readonly string[]>, devices: string) {
    this.#bench = bench
    this.#commands = commands
    this.#devices = devices
  }

  /** @param folders of programs besides those of the rig itself */
  static async build(bench: Bench, ...folders: string[]): Promise<Rig> {
    const { directory } = bench
    const commands = new Map<string, readonly string[]>()
    for (const folder of [join(import.meta.dirname, 'programs'), ...folders]) {
      for (const [name, argv] of await buildPrograms(folder, { directory, libraries: [] })) commands.set(name, argv)
    }
    const devices = join(directory, 'devices.so')
    await command('gcc', ['-O2', '-Wall', '-Wextra', '-Werror', '-shared', '-fPIC', '-o', devices, join(import.meta.dirname, 'devices.c')])
    return new Rig(bench, commands, devices)
  }

  /** Starts a guest: its program is given a path to listen on, then `args`. */
  async guest(program: string, ...args: Argument[]): Promise<Guest> {
    const socket = join(this.#bench.directory, `guest-${this.#guests++}`)
    const started = await Program.start(this.#bench.cpus.client, this.command(program, socket, ...args))
    return { socket, program: started, [Symbol.asyncDispose]: () => started[Symbol.asyncDispose]() }
  }

  /** Starts a backend in C for a guest. */
  backend({ socket }: Guest, program: string, ...args: Argument[]): Promise<Program> {
    return Program.start(this.#bench.cpus.server, this.command(program, socket, ...args))
  }

  /** Starts a program of ours that finds the devices of /dev/xen, a guest behind them, and a xenstored. */
  async ours({ socket }: Guest, program: string, ...args: Argument[]): Promise<Ours> {
    const xenstored = await listenXenstored(new Xenstored(), `${socket}-xenstored`)
    const xs = await openXenstore(xenstoreSocket(xenstored.path))
    for (const domid of [0, GUEST]) await xs.write(`/local/domain/${domid}/domid`, String(domid))
    const environment = [`LD_PRELOAD=${this.#devices}`, `XENKIT_BENCH_GUEST=${socket}`, `XENSTORED_PATH=${xenstored.path}`]
    const started = await Program.start(this.#bench.cpus.server, ['env', ...environment, ...this.command(program, ...args)])
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

  /** The command line of a program. */
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

/** Gives the guest a disk with one ring, by all that toolstack and frontend write to xenstore. */
export async function connectDisk(xs: XenstoreClient, ring: number): Promise<void> {
  const vdev = `xvd${String.fromCodePoint(97 + ring)}`
  await plugVbd(xs, { frontendDomid: GUEST, backendDomid: 0, vdev, readOnly: false })
  const device = await FrontendDevice.open(xs, { domid: GUEST, type: 'vbd', devid: parseVdev(vdev) })
  await device.publish({ 'ring-ref': String(grefOf(ring)), 'event-channel': String(portOf(ring)), protocol: 'x86_64-abi', 'feature-persistent': '1' })
  await device.connected()
}
