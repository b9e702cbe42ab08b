/** Attaches to the rings that a frontend has published: grants mapped, ports bound, queues running. */
import { EventChannel } from '@xenkit/evtchn'
import { ArenaShare, GrantTable, PersistentGrants } from '@xenkit/grant'
import { closeEach, failuresOf, firstOf, type Hypervisor } from '@xenkit/hypervisor'
import { BackRing } from '@xenkit/ring'
import { blkif } from '@xenkit/wire'
import type { BackendConnection } from '@xenkit/xenbus'
import type { BlockStore } from '../block-store.ts'
import { type FrontendRing, type FrontendRings, MAX_SEGMENTS } from '../nodes.ts'
import { Answers } from './answers.ts'
import { BufferPool } from './buffer-pool.ts'
import { CachedPages } from './cached-pages.ts'
import { CopiedData } from './copied-data.ts'
import type { DataPath, DataPathKind } from './data-path.ts'
import { Decoder } from './decoder.ts'
import { GuestTurn } from './guest-turn.ts'
import type { Limits } from './limits.ts'
import { MappedData } from './mapped-data.ts'
import { VbdQueue } from './queue.ts'
import { RequestPages } from './request-pages.ts'
import { Requests } from './requests.ts'
import type { VbdCounters } from './stats.ts'

/** Most requests of a ring that have been taken and not answered: as many as a two-page ring holds. */
const MAX_ROWS = 64

/** Operations of one grant-copy call: four of the largest requests. */
const COPIES = 4 * MAX_SEGMENTS

/** Persistent grants of a ring, as many as blkback keeps. */
const MAX_PERSISTENT_GRANTS = 1_056

export interface ConnectOptions {
  readonly domid: number
  readonly frontend: FrontendRings
  readonly store: BlockStore
  readonly limits: Limits
  readonly dataPath: DataPathKind
  readonly counters: VbdCounters
  /** A ring can't be served any more. */
  readonly failed: (error: unknown) => void
  readonly storeFailed: (error: unknown) => void
}

interface Closable {
  close(): void
}

/**
 * @throws GrantError, EvtchnError when the published references or ports can't be had: the frontend's
 *   fault, which closes its device
 */
export async function connectRings(hv: Hypervisor, o: ConnectOptions): Promise<Pick<BackendConnection, 'close'>> {
  const share = new ArenaShare(hv.arena, o.domid)
  const grants = new GrantTable(hv.grants, share)
  const pool = new BufferPool(share, o.failed)
  const guestTurn = GuestTurn.open(hv, o.domid)
  const owned: Closable[] = [grants, pool, guestTurn, share]
  const queues: VbdQueue[] = []
  try {
    for (const ring of o.frontend.rings) {
      queues.push(await openQueue(hv, o, { ring, share, grants, pool, guestTurn, owned }))
    }
  } catch (error) {
    // Events of the others have come while pages of this one were waited for.
    const unsettled = await failuresOf(queues.map((queue) => queue.settle({ frontend: 'gone' })))
    throw firstOf([error, ...unsettled, ...closeEach(owned)])
  }
  // The frontend may have sent requests, and their event, before there was a port to receive it.
  for (const queue of queues) queue.turn()
  return {
    async close(how) {
      const unsettled = await failuresOf(queues.map((queue) => queue.settle(how)))
      const errors = [...unsettled, ...closeEach(owned)]
      if (errors.length > 0) throw firstOf(errors)
    },
  }
}

/** @param shared what it opens is put at the beginning of `owned`, to be closed in that order */
async function openQueue(
  hv: Hypervisor,
  o: ConnectOptions,
  { ring: published, share, grants, pool, guestTurn, owned }: {
    readonly ring: FrontendRing
    readonly share: ArenaShare
    readonly grants: GrantTable
    readonly pool: BufferPool
    readonly guestTurn: GuestTurn
    readonly owned: Closable[]
  },
): Promise<VbdQueue> {
  const { domid, limits, store, counters, failed, storeFailed } = o
  const mapping = await grants.map(published.grefs.map((gref) => ({ domid, gref })), { writable: true })
  const layout = blkif[o.frontend.abi]
  const ring = BackRing.attach({ bytes: mapping.bytes, slotSize: layout.slotSize })
  const rows = Math.min(ring.size, MAX_ROWS)
  const batch = store.openBatch?.({ memory: hv.arena.buffer, capacity: { jobs: rows, pieces: MAX_SEGMENTS }, done: (row) => queue.batchDone(row), turned: () => queue.turned() })
  if (batch) owned.unshift(batch)
  const requests = new Requests(rows, batch?.jobs)
  const copier = grants.openCopier({ domid, capacity: COPIES })
  const decoder = new Decoder({ requests, image: ring.image, layout, limits, copier, arena: share })
  owned.unshift(decoder)
  const data = openDataPath()
  owned.unshift(data)
  const channel = EventChannel.bindInterdomain(hv.evtchn, { domid, port: published.port })
  owned.unshift(channel)
  const answers = new Answers({ ring, requests, layout })
  const queue = new VbdQueue({ ring, channel, requests, decoder, data, answers, guestTurn, limits, store, batch, counters, failed, storeFailed })
  channel.handle(() => queue.turn(), failed)
  return queue

  function openDataPath(): DataPath {
    const copied = new CopiedData({ requests, copier, pool, wake: () => queue.resume() })
    if (o.dataPath === 'copy') return copied
    const pages = o.dataPath === 'map' ? requestPages() : cachedPages()
    return new MappedData({ requests, buffer: hv.arena.buffer, pages, copied })
  }

  function requestPages(): RequestPages {
    const readsAlone = store.write !== undefined && !store.write.leavesBuffers
    return new RequestPages({ requests, grants, share, readsAlone })
  }

  function cachedPages(): CachedPages {
    const counted = (change: number): void => counters.countPersistent(change)
    const o = { domid, capacity: MAX_PERSISTENT_GRANTS, failed, counted }
    return new CachedPages(requests, new PersistentGrants(grants, share, o))
  }
}
