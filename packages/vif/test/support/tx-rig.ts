/**
 * A transmit ring that a test's guest fills slot by slot, against the protocol too, and the backend
 * that serves it. `turn` serves the ring at once, without an event.
 */
import { PagePool, openGuestTurn } from '@xenkit/backend'
import { Frames, type LinkEnd, NO_OFFLOADS } from '@xenkit/frames'
import { ArenaShare, GrantTable } from '@xenkit/grant'
import { type GrantShare, type Hypervisor, Owner } from '@xenkit/hypervisor'
import { BackRing, FrontRing } from '@xenkit/ring'
import { type SimDomain, type SimMachine, createMachine } from '@xenkit/sim'
import { NETTXF, XEN_NETIF_EXTRA_TYPE, netif } from '@xenkit/wire'
import { type OpenedRing, attachRing, openRing } from '@xenkit/xenbus'
import { Credit } from '../../src/backend/credit.ts'
import { MulticastFilter } from '../../src/backend/multicast-filter.ts'
import { StaticGrefs } from '../../src/backend/static-grefs.ts'
import { CardCounters } from '../../src/backend/stats.ts'
import { TxWork } from '../../src/backend/tx-work.ts'
import type { VifRate } from '../../src/requested-card.ts'

const { slotSize } = netif.tx
const PAGE = 4096

/** Fields of a transmit request. Defaults: gref of the guest's first page, all others 0. */
export interface RawPart {
  gref?: number
  offset?: number
  flags?: number
  id?: number
  size?: number
}

/** Bytes of an extra info: its type and flags, and the six bytes of its union. */
export interface RawExtra {
  type: number
  flags?: number
  u?: readonly number[]
}

export interface RawResponse {
  readonly id: number
  readonly status: number
  /** All bytes of the slot. */
  readonly slot: Uint8Array
}

/** A frame as the link got it. */
export interface SentFrame {
  readonly bytes: Uint8Array
  readonly checksum: number
  readonly checksumStart: number
  readonly checksumOffset: number
  readonly gso: number
  readonly gsoSize: number
  readonly headers: number
}

export interface TxRigOptions {
  /** Pages of the guest that parts can be in, filled with `patternAt`. Default 24. */
  pages?: number
  rate?: VifRate
  offered?: { gso4: boolean; gso6: boolean }
  /** Takes the frames, beside `frames` of the rig. */
  link?: Pick<LinkEnd, 'send' | 'offloads'>
  /** Wraps the backend's hypervisor. */
  through?: (dom0: Hypervisor) => Hypervisor
  /** Keeps no copies of frames: for counting the heap. */
  forgets?: boolean
}

/**
 * The byte that page `page` of the guest holds at `offset`. Bit 4 is set, so that no two bytes are
 * an EtherType which the backend knows.
 */
export const patternAt = (page: number, offset: number): number =>
  ((page * 37 + offset * 11 + (offset >> 8) * 3) & 0xff) | 0x10

export class TxRig implements AsyncDisposable {
  readonly machine: SimMachine
  readonly dom0: SimDomain
  readonly guest: SimDomain
  readonly front: OpenedRing<FrontRing>
  readonly data: GrantShare
  readonly work: TxWork
  readonly filter = new MulticastFilter()
  readonly credit: Credit
  readonly counters = new CardCounters()
  readonly pool: PagePool
  readonly staticGrefs: StaticGrefs
  readonly frames: SentFrame[] = []
  /** Number of frames in each call of the link's `send`. */
  readonly batches: number[] = []
  readonly failures: unknown[] = []
  readonly #owner: Owner

  private constructor(o: {
    machine: SimMachine
    dom0: SimDomain
    guest: SimDomain
    hv: Hypervisor
    owner: Owner
    front: OpenedRing<FrontRing>
    back: Awaited<ReturnType<typeof attachBack>>
    options: TxRigOptions
  }) {
    const { machine, dom0, guest, hv, owner, front, back, options } = o
    const { rate, offered = { gso4: true, gso6: true }, pages = 24 } = options
    const { domid } = guest
    const failed = (error: unknown): void => void this.failures.push(error)
    this.machine = machine
    this.dom0 = dom0
    this.guest = guest
    this.front = front
    this.#owner = owner
    this.data = owner.own(guest.grants.share({ domid: dom0.domid, pages, writable: false }))
    for (let i = 0; i < pages * PAGE; i++) {
      this.data.bytes[i] = patternAt(Math.floor(i / PAGE), i % PAGE)
    }
    this.credit = owner.own(new Credit(rate))
    const { share, grants, ring, channel } = back
    this.pool = owner.own(new PagePool(share, { small: 16, large: 64, maxLarge: 2 }, failed))
    this.staticGrefs = owner.own(new StaticGrefs({ domid, grants, share, failed }))
    const guestTurn = owner.own(openGuestTurn(hv.loop, domid))
    this.work = new TxWork({
      ring,
      channel,
      guestTurn,
      loop: hv.loop,
      copier: owner.own(grants.openCopier({ domid, capacity: ring.size })),
      pool: this.pool,
      memory: new Uint8Array(hv.arena.buffer),
      staticGrefs: this.staticGrefs,
      offered,
      filter: this.filter,
      credit: this.credit,
      link: options.forgets
        ? { send() {} }
        : {
            offloads: options.link?.offloads ?? NO_OFFLOADS,
            send: (frames) => this.#sent(frames, options.link),
          },
      counters: this.counters.own,
      failed,
    })
  }

  static async open(options: TxRigOptions = {}): Promise<TxRig> {
    const machine = createMachine()
    const dom0 = machine.createDomain()
    const guest = machine.createDomain()
    const hv = options.through?.(dom0) ?? dom0
    const owner = new Owner()
    const front = owner.own(
      openRing(guest, { domid: dom0.domid, init: (bytes) => FrontRing.init({ bytes, slotSize }) }),
    )
    const back = await attachBack(hv, guest.domid, front, owner)
    return new TxRig({ machine, dom0, guest, hv, owner, front, back, options })
  }

  /** Bytes of the guest's page. */
  page(page: number): Uint8Array {
    return this.data.bytes.subarray(page * PAGE, (page + 1) * PAGE)
  }

  gref(page: number): number {
    return this.data.grefs[page] ?? 0
  }

  /** Writes a part into the next slot. */
  put({ gref = this.gref(0), offset = 0, flags = 0, id = 0, size = 0 }: RawPart): void {
    const { ring, bytes } = this.front
    netif.tx.request.encode({ gref, offset, flags, id, size }, bytes, ring.reserveRequest())
  }

  /**
   * Writes a frame into the guest's pages, and its parts and GSO extra info into the next slots.
   */
  putFrame(
    frame: Uint8Array,
    {
      id = 0,
      flags = 0,
      gso,
    }: { id?: number; flags?: number; gso?: { type: number; size: number } },
  ): void {
    this.data.bytes.set(frame)
    const pages = Math.max(1, Math.ceil(frame.length / PAGE))
    for (let page = 0; page < pages; page++) {
      const isFirst = page === 0
      this.put({
        gref: this.gref(page),
        size: isFirst ? frame.length : Math.min(PAGE, frame.length - page * PAGE),
        flags:
          (isFirst ? flags : 0) |
          (page + 1 < pages ? NETTXF.more_data : 0) |
          (isFirst && gso ? NETTXF.extra_info : 0),
        id: id + page,
      })
      if (isFirst && gso) {
        const { type, size } = gso
        this.putExtra({ type: XEN_NETIF_EXTRA_TYPE.GSO, u: [size & 255, size >> 8, type, 0, 0, 0] })
      }
    }
  }

  /** Writes an extra info into the next slot. What it doesn't use is 0xee. */
  putExtra({ type, flags = 0, u = [] }: RawExtra): void {
    const { ring, bytes } = this.front
    const at = ring.reserveRequest()
    bytes.fill(0xee, at, at + slotSize)
    bytes.set([type, flags, ...u], at)
  }

  /** Writes a slot's bytes into the next slot. */
  putRaw(slot: Uint8Array): void {
    this.front.bytes.set(slot, this.front.ring.reserveRequest())
  }

  /** Publishes the slots, and lets the backend serve the ring. */
  turn(): void {
    this.front.ring.publish()
    this.work.server.turn()
  }

  /** Takes what was answered. */
  responses(): RawResponse[] {
    const { ring } = this.front
    const responses: RawResponse[] = []
    for (let count = ring.drain(ring.size); count > 0; count = ring.drain(ring.size)) {
      const image = new Uint8Array(ring.image)
      for (let i = 0; i < count; i++) {
        const slot = image.slice(ring.messageAt(i), ring.messageAt(i) + slotSize)
        responses.push({ ...netif.tx.response.decode(slot), slot })
      }
    }
    return responses
  }

  /** The responses as "id:status". */
  answers(): string[] {
    return this.responses().map(({ id, status }) => `${id}:${status}`)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.work.server.settle({ frontend: 'gone' })
    this.#owner.close()
    await this.machine[Symbol.asyncDispose]()
  }

  #sent(frames: Frames, link: Pick<LinkEnd, 'send'> | undefined): void {
    this.batches.push(frames.count)
    for (let i = 0; i < frames.count; i++) {
      this.frames.push({
        bytes: frames.bytes(i).slice(),
        checksum: frames.checksum[i] ?? -1,
        checksumStart: frames.checksumStart[i] ?? -1,
        checksumOffset: frames.checksumOffset[i] ?? -1,
        gso: frames.gso[i] ?? -1,
        gsoSize: frames.gsoSize[i] ?? -1,
        headers: frames.headers[i] ?? -1,
      })
    }
    link?.send(frames)
  }
}

async function attachBack(
  hv: Hypervisor,
  domid: number,
  front: OpenedRing<FrontRing>,
  owner: Owner,
) {
  const share = owner.own(new ArenaShare(hv.arena, domid))
  const grants = owner.own(new GrantTable(hv.grants, share))
  const attached = owner.own(
    await attachRing(hv, {
      domid,
      grefs: [Number(front.nodes['ring-ref'])],
      port: Number(front.nodes['event-channel']),
      grants,
      attach: (bytes) => BackRing.attach({ bytes, slotSize }),
    }),
  )
  return { share, grants, ring: attached.ring, channel: attached.channel }
}
