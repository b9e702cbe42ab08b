/**
 * Warms a backend up: serves requests of simulated guests until V8 has compiled all code that
 * requests run through.
 *
 * V8 compiles a function for the classes and callees that it has seen. A new one makes V8 drop the
 * compiled code and interpret until it has compiled again. So the warm-up sends all common kinds of
 * requests over both data paths, from two guests on each of two hypervisors: V8 has then seen
 * everything that differs between guests.
 *
 * V8 also drops code when the last object of a class that it was compiled for is gone. So one
 * request of each ring stays in flight, and keeps a buffer or a mapped page in use.
 */
import type { BlockStore } from '@xenkit/block-store'
import { type Hypervisor, PAGE_SIZE } from '@xenkit/hypervisor'
import { BLKIF_MAX_SEGMENTS_PER_REQUEST, BLKIF_OP, blkif, RING_OFFSET, sring } from '@xenkit/wire'
import type { GrantedPage } from '../frontend/granted-pages.ts'
import { RequestEncoder } from '../frontend/request-encoder.ts'
import { type Connection, connectRings } from './connect.ts'
import { limitsOf } from './limits.ts'
import type { DataPathKind } from './data-path.ts'
import { DiskCounters, type VbdStats } from './stats.ts'

/** Rounds of requests after which all of that code is compiled. They take 70 ms. */
const ROUNDS = 50

/** Slots of a ring of one page. */
const SLOTS = 32

/** Segments of a large request: the most that Linux's blkfront sends by default. */
const LARGE = 32

/** Pages that a guest grants: its ring, its data, and the list of a large request's segments. */
const DATA_PAGE = 1
const SEGMENTS_PAGE = DATA_PAGE + LARGE
const PAGES = SEGMENTS_PAGE + 1

const layout = blkif.x86_64

/** Positions of the ring's indices, in words. */
const REQ_PROD = sring.at.req_prod / 4
const RSP_PROD = sring.at.rsp_prod / 4
const RSP_EVENT = sring.at.rsp_event / 4

/** A hypervisor without guests, such as `openLoopback` of @xenkit/xen makes. */
export interface PlayedHypervisor {
  readonly hv: Hypervisor
  /** Returns the memory at which a reference was mapped last. */
  mapped(gref: number): Uint8Array
  /** Runs the handler of a port, as an event does. */
  raise(port: number): void
}

/**
 * Serves some 18,000 requests of simulated guests.
 * @param hypervisors two, of the classes that later guests are served with
 * @param store at least 128 KiB, of the class that later guests are served from; it is overwritten
 * @returns an object that keeps V8 from dropping the code; dispose of it before closing the
 *   hypervisors
 * @throws Error if a request fails
 */
export async function warmUpRings(
  hypervisors: readonly PlayedHypervisor[],
  store: BlockStore,
): Promise<AsyncDisposable> {
  let flushed: void | Promise<void> = undefined
  const disk: BlockStore = {
    // V8 represents numbers beyond 31 bits differently: it has to see one before it compiles.
    sectors: 2 ** 33,
    read: (sector, buffers) => store.read(sector, buffers),
    write: (sector, buffers) => store.write?.(sector, buffers),
    flush: () => flushed,
    openBatch: (o) => store.openBatch?.(o),
  }
  const guests = await Promise.all(
    hypervisors.flatMap((played) => [
      PlayedGuest.connect(played, { domid: 1, dataPath: 'persistent', store: disk }),
      PlayedGuest.connect(played, { domid: 2, dataPath: 'copy', store: disk }),
    ]),
  )
  for (let round = 0; round < ROUNDS; round++) {
    for (const guest of guests) await guest.sendAll(round)
  }
  let end = (): void => {}
  flushed = new Promise((resolve) => (end = resolve))
  for (const guest of guests) guest.sendLast()
  return {
    async [Symbol.asyncDispose]() {
      end()
      for (const guest of guests) await guest.close()
    },
  }
}

interface GuestOptions {
  readonly domid: number
  readonly dataPath: DataPathKind
  readonly store: BlockStore
}

/** A simulated guest with a disk of one ring. Its requests read and write the same pages. */
class PlayedGuest {
  readonly #connection: Connection
  readonly #stats: VbdStats
  readonly #slots: Uint8Array
  readonly #indices: Int32Array
  readonly #raise: () => void
  readonly #reads: Uint8Array
  readonly #writes: Uint8Array
  readonly #flushes: Uint8Array
  readonly #largeReads: Uint8Array
  readonly #largeWrites: Uint8Array
  readonly #lastFlush: Uint8Array
  #sent = 0

  static async connect(
    { hv, mapped, raise }: PlayedHypervisor,
    { domid, dataPath, store }: GuestOptions,
  ): Promise<PlayedGuest> {
    const { bytes, grefs } = hv.grants.share({ domid, pages: PAGES, writable: true })
    const pages = Array.from(grefs, (gref, i) => ({
      gref,
      bytes: bytes.subarray(i * PAGE_SIZE, (i + 1) * PAGE_SIZE),
    }))
    const gref = grefs[0] ?? 0
    const port = domid
    const policy = { readOnly: false, cdrom: false, removable: false, discard: false }
    const counters = new DiskCounters()
    const fail = (error: unknown): never => {
      throw error
    }
    const connection = await connectRings(hv, {
      domid,
      frontend: {
        rings: [{ grefs: [gref], port }],
        abi: 'x86_64',
        persistent: true,
        largeSectors: false,
      },
      store,
      limits: limitsOf(store, policy),
      dataPath,
      counters: counters.own,
      failed: fail,
      storeFailed: fail,
      abandon: new AbortController().signal,
    })
    const o = { pages, connection, stats: counters.stats, raise: () => raise(port) }
    return new PlayedGuest(mapped(gref), o)
  }

  private constructor(
    ring: Uint8Array,
    o: {
      readonly pages: readonly GrantedPage[]
      readonly connection: Connection
      readonly stats: VbdStats
      readonly raise: () => void
    },
  ) {
    this.#slots = ring.subarray(RING_OFFSET)
    this.#indices = new Int32Array(ring.buffer, ring.byteOffset, RING_OFFSET / 4)
    this.#connection = o.connection
    this.#stats = o.stats
    this.#raise = o.raise
    const slots = (operation: number, pages: number): Uint8Array =>
      encodeRequests(o.pages, operation, pages)
    this.#reads = slots(BLKIF_OP.READ, 1)
    this.#writes = slots(BLKIF_OP.WRITE, 1)
    this.#flushes = slots(BLKIF_OP.FLUSH_DISKCACHE, 0)
    this.#largeReads = slots(BLKIF_OP.READ, LARGE)
    this.#largeWrites = slots(BLKIF_OP.WRITE, LARGE)
    this.#lastFlush = slots(BLKIF_OP.FLUSH_DISKCACHE, 1)
  }

  /** @throws Error if a request fails */
  async sendAll(round: number): Promise<void> {
    await this.#serve(this.#reads, SLOTS)
    await this.#serve(this.#writes, SLOTS)
    // An odd number: the next batches run over the end of the ring.
    for (let i = 0; i < 7; i++) await this.#serve(this.#reads, 1)
    await this.#serve(this.#flushes, 2)
    // Every eighth round fills the ring: 32 large requests are more than a guest's turn allows, so
    // that V8 also compiles the code that waits for the next turn.
    await this.#serve(this.#largeReads, round % 8 === 0 ? SLOTS : 4)
    await this.#serve(this.#largeWrites, round % 8 === 0 ? SLOTS : 4)
    const { errors } = this.#stats
    if (errors > 0) throw new Error(`${errors} requests of the warm-up failed`)
  }

  /** Sends a write that waits for a flush, and so keeps its buffer or page in use. */
  sendLast(): void {
    this.#send(this.#lastFlush, 1)
  }

  /** Closes the disk. Call it when the last request can complete. */
  async close(): Promise<void> {
    await this.#answered()
    await this.#connection.close({ frontend: 'gone' })
  }

  async #serve(requests: Uint8Array, count: number): Promise<void> {
    this.#send(requests, count)
    await this.#answered()
  }

  async #answered(): Promise<void> {
    while (Atomics.load(this.#indices, RSP_PROD) !== this.#sent) {
      await new Promise((resolve) => setImmediate(resolve))
    }
  }

  #send(requests: Uint8Array, count: number): void {
    this.#slots.set(requests)
    Atomics.store(this.#indices, RSP_EVENT, this.#sent + 1)
    this.#sent += count
    Atomics.store(this.#indices, REQ_PROD, this.#sent)
    this.#raise()
  }
}

/** Encodes a ring full of requests of one kind. @returns the bytes of its slots */
function encodeRequests(
  guest: readonly GrantedPage[],
  operation: number,
  pages: number,
): Uint8Array {
  const slots = new Uint8Array(SLOTS * layout.slotSize)
  const encoder = new RequestEncoder(layout, slots)
  for (let i = 0; i < SLOTS; i++) {
    const first = pages === 1 ? i : 0
    const data = guest.slice(DATA_PAGE + first, DATA_PAGE + first + pages)
    encoder.encode(
      {
        operation,
        sector: 8 * first,
        bytes: pages * PAGE_SIZE,
        data: [],
        secure: false,
        done() {},
      },
      i * layout.slotSize,
      { low: i, high: 0 },
      pages > BLKIF_MAX_SEGMENTS_PER_REQUEST ? [...data, ...guest.slice(SEGMENTS_PAGE)] : data,
    )
  }
  return slots
}
