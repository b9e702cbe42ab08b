/** A machine on which domain 0 serves one receive ring of a guest. */
import { openGuestTurn, PagePool } from '@xenkit/backend'
import { EventChannel } from '@xenkit/evtchn'
import { ArenaShare, GrantTable } from '@xenkit/grant'
import { type Hypervisor, Owner } from '@xenkit/hypervisor'
import { Frames } from '@xenkit/frames'
import { BackRing } from '@xenkit/ring'
import { type SimDomain, createMachine } from '@xenkit/sim'
import { attachRing } from '@xenkit/xenbus'
import { RX_EXTENTS } from '../../src/backend/rx-queue.ts'
import { RxServer } from '../../src/backend/rx-server.ts'
import { CardCounters } from '../../src/backend/stats.ts'
import type { FrontendFeatures } from '../../src/nodes.ts'
import { RawRxFront } from './raw-rx-front.ts'

/** A guest that takes everything. */
export const ALL_FEATURES: FrontendFeatures = {
  sg: true,
  gso4: true,
  gso6: true,
  checksum4: true,
  checksum6: true,
  rxNotify: true,
  multicastControl: false,
  xdpHeadroom: 0,
}

/** Bytes of the memory that frames are sent from. */
const SOURCE = 2 ** 20

export interface RxRig extends AsyncDisposable {
  readonly dom0: Hypervisor
  readonly guest: SimDomain
  readonly front: RawRxFront
  readonly server: RxServer
  /** The guest's port. */
  readonly port: EventChannel
  readonly counters: CardCounters
  /** Calls of `pause`, `stalled` and `failed`, in order. */
  readonly calls: unknown[]
  /** Numbers of operations of each grant-copy call. */
  readonly copies: number[]
  /** Events sent to the guest. */
  readonly notified: () => number
  /** A batch of frames in the arena, with the given contents. */
  batch(contents: readonly Uint8Array[]): Frames
}

export interface RxRigOptions {
  readonly features?: Partial<FrontendFeatures>
  /** Where the ring's indices start. Default 0. */
  readonly index?: number
  readonly through?: (dom0: Hypervisor) => Hypervisor
  readonly onPause?: (paused: boolean) => void
}

export async function rxRig(o: RxRigOptions = {}): Promise<RxRig> {
  const machine = createMachine()
  const real = machine.createDomain()
  const dom0 = o.through?.(real) ?? real
  const guest = machine.createDomain()
  const owner = new Owner()
  const share = (pages: number) => guest.grants.share({ domid: dom0.domid, pages, writable: true })
  const front = owner.own(new RawRxFront(share(1), share(256), o.index ?? 0))
  const port = owner.own(EventChannel.bindUnbound(guest.evtchn, { domid: dom0.domid }))
  const arenaShare = owner.own(new ArenaShare(dom0.arena, guest.domid))
  const grants = owner.own(new GrantTable(dom0.grants, arenaShare))
  const guestTurn = owner.own(openGuestTurn(dom0.loop, guest.domid))
  const calls: unknown[] = []
  const failed = (error: unknown): void => void calls.push(error)
  const { ring, channel } = owner.own(
    await attachRing(dom0, {
      domid: guest.domid,
      grefs: [...front.ring.grefs],
      port: port.port,
      grants,
      attach: (bytes) => BackRing.attach({ bytes, slotSize: 8 }),
    }),
  )
  const copier = owner.own(grants.openCopier({ domid: guest.domid, capacity: ring.size }))
  const copies: number[] = []
  const copyOut = copier.copyOut.bind(copier)
  copier.copyOut = () => {
    copies.push(copier.count)
    return copyOut()
  }
  let notified = 0
  const notify = channel.notify.bind(channel)
  channel.notify = () => {
    notified++
    notify()
  }
  const counters = new CardCounters()
  const server = new RxServer({
    ring,
    channel,
    copier,
    guestTurn,
    features: { ...ALL_FEATURES, ...o.features },
    counters: counters.own,
    memory: new Uint8Array(dom0.arena.buffer),
    pool: owner.own(new PagePool(arenaShare, RX_EXTENTS, failed)),
    pause(paused) {
      calls.push(paused ? 'pause' : 'resume')
      o.onPause?.(paused)
    },
    stalled: (stalled) => void calls.push(stalled ? 'stalled' : 'ready'),
    failed,
  })
  channel.handle(() => server.turn(), failed)
  const source = owner.own(dom0.arena.allocate(SOURCE / 4096))
  return {
    dom0,
    guest,
    front,
    server,
    port,
    counters,
    calls,
    copies,
    notified: () => notified,
    batch(contents) {
      const frames = new Frames(Math.max(1, contents.length))
      frames.reset(source.bytes)
      let start = 1
      for (const bytes of contents) {
        if (start + bytes.length > SOURCE) start = 1 // frames of the same content may overlap
        source.bytes.set(bytes, start)
        frames.add({ start, length: bytes.length })
        start += bytes.length
      }
      return frames
    },
    async [Symbol.asyncDispose]() {
      await server.settle()
      owner.close()
      await machine[Symbol.asyncDispose]()
    },
  }
}

/** Bytes of a frame that differ from those of other seeds and positions. */
export const content = (length: number, seed = 0): Uint8Array =>
  Uint8Array.from({ length }, (_, i) => (i * 7 + (i >> 8) * 13 + seed * 31) & 0xff)
