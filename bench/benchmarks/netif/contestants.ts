/**
 * A contestant: a guest with a network card, and the backend that connects the card with a TAP
 * device. All contestants stay connected, but only one at a time has packets.
 */
import { plugVif } from 'xenkit'
import { FrontendDevice } from '@xenkit/xenbus'
import type { XenstoreClient } from '@xenkit/xenstore-client'
import { processorSeconds } from '../../src/process-usage.ts'
import type { Program } from '../../src/program.ts'
import { type Guest, grefOf, portOf, type Rig } from '../../rig/rig.ts'

/** Rings of the guest, by number. */
const [TX, RX] = [0, 1]
const GUEST = 1

export interface Load {
  /** Whether the guest sends packets or receives them. */
  readonly direction: 'tx' | 'rx'
  /** Bytes of a packet, 60..65535. */
  readonly size: number
  /** Packets under way; as many as the ring has room for if that is fewer. */
  readonly depth: number
}

/** Counters of one measured period of a contestant, from net-front.c and from the kernel. */
export interface Turn {
  readonly packets: number
  readonly seconds: number
  /** Calls of xenkit's backend on gntdev, and on evtchn to notify and unmask. */
  readonly grantCalls: number
  readonly eventCalls: number
  /** The part of the event calls that unmasks, which are system calls on Xen alone. */
  readonly unmasks: number
  /** Processor time of the backend's threads in seconds. */
  readonly busy: number
}

export class Contestant implements AsyncDisposable {
  /** The backend's process. */
  readonly program: Program
  readonly #guest: Guest
  readonly #backend: AsyncDisposable
  readonly #tap: string

  private constructor(
    guest: Guest,
    { program, backend, tap }: { program: Program; backend: AsyncDisposable; tap: string },
  ) {
    this.#guest = guest
    this.program = program
    this.#backend = backend
    this.#tap = tap
  }

  /** Starts the backend net-back.c, whose mode is `how`. */
  static async inC(rig: Rig, how: 'each' | 'uring'): Promise<Contestant> {
    const guest = await rig.guest('net-front')
    const tap = `xkb-${how}`
    const program = await rig.backend(guest, 'net-back', tap, how)
    return new Contestant(guest, { program, backend: program, tap })
  }

  /** Starts xenkit's `serveVif` with a TAP device. */
  static async ours(rig: Rig): Promise<Contestant> {
    const guest = await rig.guest('net-front')
    const tap = 'xkb-ours'
    const ours = await rig.ours(guest, 'net-serve', tap)
    await connectCard(ours.xs)
    return new Contestant(guest, { program: ours.program, backend: ours, tap })
  }

  /** Sends packets for `seconds`, or until there were `packets`. */
  async turn(
    { direction, size, depth }: Load,
    {
      seconds = 3_600,
      packets = Number.MAX_SAFE_INTEGER,
    }: { readonly seconds?: number; readonly packets?: number },
  ): Promise<Turn> {
    const before = processorSeconds(this.program.pid)
    const counted = await this.#guest.program.ask<Omit<Turn, 'busy'>>(
      `${direction} ${size} ${depth} ${seconds} ${packets} ${this.#tap}`,
    )
    return { ...counted, busy: processorSeconds(this.program.pid) - before }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#backend[Symbol.asyncDispose]()
    await this.#guest[Symbol.asyncDispose]()
  }
}

/**
 * Gives the guest a card: writes all the xenstore nodes that the toolstack and the frontend write.
 */
async function connectCard(xs: XenstoreClient): Promise<void> {
  const devid = 0
  await plugVif(xs, { frontendDomid: GUEST, backendDomid: 0, devid })
  const device = await FrontendDevice.open(xs, { domid: GUEST, type: 'vif', devid })
  await device.publish({
    'tx-ring-ref': String(grefOf(TX)),
    'rx-ring-ref': String(grefOf(RX)),
    'event-channel-tx': String(portOf(TX)),
    'event-channel-rx': String(portOf(RX)),
    'request-rx-copy': '1',
    'feature-rx-notify': '1',
    'feature-sg': '1',
    'feature-gso-tcpv4': '1',
    'feature-gso-tcpv6': '1',
    'feature-ipv6-csum-offload': '1',
  })
  await device.connected()
}
