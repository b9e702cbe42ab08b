/**
 * Attaches to the rings that a frontend has published: grants mapped, ports bound, queues running.
 */
import { EventChannel } from '@xenkit/evtchn'
import { ArenaShare, GrantTable, PersistentGrants } from '@xenkit/grant'
import { closeEach, failuresOf, firstOf, type Hypervisor } from '@xenkit/hypervisor'
import { BackRing } from '@xenkit/ring'
import { blkif } from '@xenkit/wire'
import type { BackendConnection, CloseOptions } from '@xenkit/xenbus'
import type { BlockStore } from '@xenkit/block-store'
import { type FrontendRing, type FrontendRings, MAX_SEGMENTS } from '../nodes.ts'
import { unlessAborted } from '@xenkit/backend'
import { Answers } from './answers.ts'
import { BufferPool } from '@xenkit/backend'
import { CachedPages } from './cached-pages.ts'
import { CopiedData } from './copied-data.ts'
import type { DataPath, DataPathKind } from './data-path.ts'
import { Decoder } from './decoder.ts'
import { GuestTurn } from '@xenkit/backend'
import type { Limits } from './limits.ts'
import { MappedData } from './mapped-data.ts'
import { VbdQueue } from './queue.ts'
import { RequestPages } from './request-pages.ts'
import { Requests } from './requests.ts'
import type { VbdCounters } from './stats.ts'

/**
 * Most requests of a ring that have been taken and not answered: as many as a two-page ring holds.
 */
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
  /** Aborts, with a `DiskAbandonedError`, when the store is waited for no longer. */
  readonly abandon: AbortSignal
}

export interface Connection extends Pick<BackendConnection, 'close'> {
  /** Resolves once nothing is held: when it is closed, or later if its store was abandoned. */
  readonly released: Promise<void>
}

interface Closable {
  close(): void
}

/**
 * @throws GrantError, EvtchnError when the published references or ports can't be had: the
 *   frontend's fault, which closes its device
 */
export async function connectRings(hv: Hypervisor, o: ConnectOptions): Promise<Connection> {
  const share = new ArenaShare(hv.arena, o.domid)
  const grants = new GrantTable(hv.grants, share)
  const pool = new BufferPool(share, o.failed)
  const guestTurn = GuestTurn.open(hv, o.domid)
  const rings: Closable[] = [guestTurn]
  const memory: Closable[] = [grants, pool, share]
  const queues: VbdQueue[] = []
  let tellReleased = (): void => {}
  const released = new Promise<void>((resolve) => (tellReleased = resolve))
  try {
    for (const ring of o.frontend.rings) {
      const parts = { ring, share, grants, pool, guestTurn, rings, memory }
      queues.push(await openQueue(hv, o, parts))
    }
  } catch (error) {
    // Events of the others have come while pages of this one were waited for.
    throw firstOf([error, ...(await failuresOf([close({ frontend: 'gone' })]))])
  }
  // The frontend may have sent requests, and their event, before there was a port to receive it.
  for (const queue of queues) queue.turn()
  return { close, released }

  async function close(how: CloseOptions): Promise<void> {
    const settling = failuresOf(queues.map((queue) => queue.settle(how)))
    const error = await untilAbandoned(settling)
    const errors = error === undefined ? await settling : [error]
    errors.push(...closeEach(rings))
    if (error === undefined) errors.push(...release())
    else releaseLate(settling)
    if (errors.length > 0) throw firstOf(errors)
  }

  /** @returns an error if the store still has requests when it is waited for no longer */
  async function untilAbandoned(settling: Promise<unknown>): Promise<unknown> {
    try {
      await unlessAborted(settling, o.abandon)
      return undefined
    } catch (error) {
      for (const queue of queues) queue.abandon()
      return queues.some(({ atStore }) => atStore > 0) ? error : undefined
    }
  }

  function release(): unknown[] {
    const errors = closeEach(memory)
    tellReleased()
    return errors
  }

  /** The store may still write to memory that it was given, or read there what it is to write. */
  function releaseLate(settling: Promise<unknown[]>): void {
    const hold = hv.arena.hold()
    void settling.then((failures) => {
      const errors = [...failures, ...release()]
      hold[Symbol.dispose]()
      if (errors.length > 0) o.failed(firstOf(errors))
    })
  }
}

interface QueueParts {
  readonly ring: FrontendRing
  readonly share: ArenaShare
  readonly grants: GrantTable
  readonly pool: BufferPool
  readonly guestTurn: GuestTurn
  /** What reaches the rings, and memory that the store is given: to be closed in this order. */
  readonly rings: Closable[]
  readonly memory: Closable[]
}

/** What it opens is put at the beginning of `rings` and `memory`. */
async function openQueue(
  hv: Hypervisor,
  o: ConnectOptions,
  { ring: published, share, grants, pool, guestTurn, rings, memory }: QueueParts,
): Promise<VbdQueue> {
  const { domid, limits, store, counters, failed, storeFailed } = o
  const mapping = await grants.map(
    published.grefs.map((gref) => ({ domid, gref })),
    { writable: true },
  )
  rings.unshift(mapping)
  const layout = blkif[o.frontend.abi]
  const ring = BackRing.attach({ bytes: mapping.bytes, slotSize: layout.slotSize })
  const rows = Math.min(ring.size, MAX_ROWS)
  const batch = store.openBatch?.({
    memory: hv.arena.buffer,
    capacity: { jobs: rows, pieces: MAX_SEGMENTS },
    done: (row) => queue.batchDone(row),
    turned: () => queue.turned(),
  })
  if (batch) memory.unshift(batch)
  const requests = new Requests(rows, batch?.jobs)
  const copier = grants.openCopier({ domid, capacity: COPIES })
  const decoder = new Decoder({ requests, image: ring.image, layout, limits, copier, arena: share })
  memory.unshift(decoder)
  const data = openDataPath()
  memory.unshift(data)
  const channel = EventChannel.bindInterdomain(hv.evtchn, { domid, port: published.port })
  rings.unshift(channel)
  const answers = new Answers({ ring, requests, layout })
  const queue = new VbdQueue({
    ring,
    channel,
    requests,
    decoder,
    data,
    answers,
    guestTurn,
    limits,
    store,
    batch,
    counters,
    failed,
    storeFailed,
  })
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
