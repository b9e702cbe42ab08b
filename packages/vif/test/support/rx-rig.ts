/** A machine on which domain 0 serves one receive ring of a guest. */
import { PagePool, ServedRings } from '@xenkit/backend'
import { EventChannel } from '@xenkit/evtchn'
import { Frames } from '@xenkit/frames'
import type { GrantCopier } from '@xenkit/grant'
import { type Hypervisor, Owner } from '@xenkit/hypervisor'
import { BackRing } from '@xenkit/ring'
import { type DomainOptions, type SimDomain, createMachine } from '@xenkit/sim'
import { attachRing } from '@xenkit/xenbus'
import { RX_EXTENTS } from '../../src/backend/rx-queue.ts'
import { RxServer, type RxServerParts } from '../../src/backend/rx-server.ts'
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

/** Bytes of the memory that frames are sent from: as many as the guest's buffers hold. */
const SOURCE = 2 ** 20

export interface RxRig extends AsyncDisposable {
  readonly dom0: Hypervisor
  readonly guest: SimDomain
  readonly front: RawRxFront
  readonly server: RxServer
  readonly served: ServedRings
  readonly copier: GrantCopier
  /** The backend's end of the event channel, then the guest's. */
  readonly channel: EventChannel
  readonly port: EventChannel
  readonly pool: PagePool
  readonly counters: CardCounters
  /** Calls of `pause`, `stalled` and `failed`, in order. */
  readonly calls: unknown[]
  /** A batch of frames in the arena, with the given contents: 1 MiB at most. */
  batch(contents: readonly Uint8Array[]): Frames
  /** Posts buffers, and sends an event if the backend asks for it. */
  post(count: number): void
}

export interface RxRigOptions {
  readonly features?: Partial<FrontendFeatures>
  readonly staticGrefs?: RxServerParts['staticGrefs']
  /** Where the ring's indices start. Default 0. */
  readonly index?: number
  readonly arena?: DomainOptions['arena']
  readonly through?: (dom0: Hypervisor) => Hypervisor
  readonly onPause?: (paused: boolean) => void
}

export async function rxRig(o: RxRigOptions = {}): Promise<RxRig> {
  const machine = createMachine()
  const real = machine.createDomain(o.arena ? { arena: o.arena } : {})
  const dom0 = o.through?.(real) ?? real
  const guest = machine.createDomain()
  const { domid } = guest
  const owner = new Owner()
  const share = (pages: number) => guest.grants.share({ domid: dom0.domid, pages, writable: true })
  const front = owner.own(new RawRxFront(share(1), share(256), o.index ?? 0))
  const port = owner.own(EventChannel.bindUnbound(guest.evtchn, { domid: dom0.domid }))
  const source = owner.own(dom0.arena.allocate(SOURCE / 4096))
  const calls: unknown[] = []
  const failed = (error: unknown): void => void calls.push(error)
  const { signal } = new AbortController()
  const served = new ServedRings(dom0, { domid, abandon: signal, failed })
  const { grants, guestTurn } = served
  const { ring, channel } = served.rings.own(
    await attachRing(dom0, {
      domid,
      grefs: [...front.ring.grefs],
      port: port.port,
      grants,
      attach: (bytes) => BackRing.attach({ bytes, slotSize: 8 }),
    }),
  )
  const copier = served.memory.own(grants.openCopier({ domid, capacity: ring.size }))
  const pool = served.memory.own(new PagePool(served.share, RX_EXTENTS, failed))
  const counters = new CardCounters()
  const server = new RxServer({
    ring,
    channel,
    copier,
    ...(o.staticGrefs ? { staticGrefs: o.staticGrefs } : {}),
    guestTurn,
    features: { ...ALL_FEATURES, ...o.features },
    counters: counters.own,
    memory: new Uint8Array(dom0.arena.buffer),
    pool,
    pause(paused) {
      calls.push(paused ? 'pause' : 'resume')
      o.onPause?.(paused)
    },
    stalled: (stalled) => void calls.push(stalled ? 'stalled' : 'ready'),
    failed,
  })
  served.add(server, channel)
  served.begin()
  return {
    dom0,
    guest,
    front,
    server,
    served,
    copier,
    channel,
    port,
    pool,
    counters,
    calls,
    batch(contents) {
      const frames = new Frames(Math.max(1, contents.length))
      frames.reset(source.bytes)
      let start = 0
      for (const bytes of contents) {
        source.bytes.set(bytes, start)
        frames.add({ start, length: bytes.length })
        start += bytes.length
      }
      return frames
    },
    post(count) {
      if (front.post(count)) port.notify()
    },
    async [Symbol.asyncDispose]() {
      await served.close({ frontend: 'gone' })
      owner.close()
      await machine[Symbol.asyncDispose]()
    },
  }
}

/** Bytes of a frame that differ from those of other seeds and positions. */
export const content = (length: number, seed = 0): Uint8Array =>
  Uint8Array.from({ length }, (_, i) => (i * 7 + (i >> 8) * 13 + seed * 31) & 0xff)

/** Whether packets have the contents that were sent: faster than `toEqual` for long ones. */
export const sameBytes = (
  got: readonly (Uint8Array | undefined)[],
  sent: readonly Uint8Array[],
): boolean =>
  got.length === sent.length &&
  sent.every((bytes, i) => got[i] && Buffer.compare(bytes, got[i]) === 0)
