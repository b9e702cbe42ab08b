/**
 * Attaches to the rings that a frontend has published: grants mapped, ports bound, queues running.
 */
import { PersistentGrants } from '@xenkit/grant'
import type { Hypervisor } from '@xenkit/hypervisor'
import { BackRing } from '@xenkit/ring'
import { blkif } from '@xenkit/wire'
import { attachRing, type PublishedRing } from '@xenkit/xenbus'
import type { BlockStore } from '@xenkit/block-store'
import { type FrontendRings, MAX_SEGMENTS } from '../nodes.ts'
import { PagePool, ServedRings } from '@xenkit/backend'
import { Answers } from './answers.ts'
import { CachedPages } from './cached-pages.ts'
import { CopiedData } from './copied-data.ts'
import type { DataPath, DataPathKind } from './data-path.ts'
import { Decoder } from './decoder.ts'
import type { Limits } from './limits.ts'
import { MappedData } from './mapped-data.ts'
import { DiskWork } from './disk-work.ts'
import { RequestPages } from './request-pages.ts'
import { Requests } from './requests.ts'
import type { VbdCounters } from './stats.ts'

/** Most requests of a ring in flight: as many as a two-page ring holds. */
const MAX_ROWS = 64

/** Operations of one grant-copy call: four of the largest requests. */
const COPIES = 4 * MAX_SEGMENTS

/** Persistent grants of a ring, as many as blkback keeps. */
const MAX_PERSISTENT_GRANTS = 1_056

/**
 * Buffers for copies, in pages. The small extent, 256 KiB, is enough for a disk that is read a page
 * at a time. Each of up to four large ones holds the largest request, 1 MiB.
 */
const EXTENTS = { small: 64, large: MAX_SEGMENTS, maxLarge: 4 }

export interface ConnectOptions {
  readonly domid: number
  readonly frontend: FrontendRings
  readonly store: BlockStore
  readonly limits: Limits
  readonly dataPath: DataPathKind
  readonly counters: VbdCounters
  /** Called when a ring can't be served any more. */
  readonly failed: (error: unknown) => void
  readonly storeFailed: (error: unknown) => void
  /** Aborts with a `DeviceAbandonedError` when waiting for the store ends. */
  readonly abandon: AbortSignal
}

export type Connection = Pick<ServedRings, 'close' | 'released'>

/**
 * Maps the frontend's rings, binds their ports and starts to serve them.
 *
 * @throws GrantError for a published reference that can't be mapped. The frontend is to blame: its
 *   device is closed.
 * @throws EvtchnError for a published port that can't be bound, likewise
 */
export async function connectRings(hv: Hypervisor, o: ConnectOptions): Promise<Connection> {
  const served = new ServedRings(hv, o)
  const pool = served.memory.own(new PagePool(served.share, EXTENTS, o.failed))
  try {
    for (const ring of o.frontend.rings) await serveRing(hv, o, { ring, pool, served })
  } catch (error) {
    // Rings opened before this one may already be serving requests: settle those first.
    throw await served.closeAfter(error)
  }
  served.begin()
  return served
}

interface RingParts {
  readonly ring: PublishedRing
  readonly pool: PagePool
  readonly served: ServedRings
}

async function serveRing(
  hv: Hypervisor,
  o: ConnectOptions,
  { ring: published, pool, served }: RingParts,
): Promise<void> {
  const { domid, limits, store, counters, failed, storeFailed } = o
  const { rings, memory, share, grants, guestTurn } = served
  const layout = blkif[o.frontend.abi]
  const { slotSize } = layout
  const attach = (bytes: Uint8Array): BackRing => BackRing.attach({ bytes, slotSize })
  const { ring, channel } = rings.own(await attachRing(hv, { ...published, domid, grants, attach }))
  const requests = new Requests(Math.min(ring.size, MAX_ROWS))
  const batch = store.openBatch?.({
    memory: hv.arena.buffer,
    capacity: { jobs: requests.rows, pieces: MAX_SEGMENTS },
    done: (row) => work.batchDone(row),
    turned: () => work.server.completed(),
  })
  if (batch) memory.own(batch)
  const copier = grants.openCopier({ domid, capacity: COPIES })
  const decoder = memory.own(
    new Decoder({ requests, image: ring.image, layout, limits, copier, arena: share }),
  )
  const data = memory.own(openDataPath())
  const answers = new Answers({ ring, requests, layout })
  // Properties are listed, not spread from `o`: V8 would give the copy another class for each
  // caller of this function.
  const work = new DiskWork({
    ring,
    channel,
    requests,
    decoder,
    data,
    answers,
    guestTurn,
    loop: hv.loop,
    limits,
    store,
    batch,
    counters,
    failed,
    storeFailed,
  })
  served.add(work.server, channel)

  function openDataPath(): DataPath {
    const copied = new CopiedData({ requests, copier, pool, wake: () => work.server.resume() })
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
