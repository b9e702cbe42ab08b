/** A frontend that publishes and sends whatever a test tells it to, against the protocol too. */
import type { EventChannel } from '@xenkit/evtchn'
import { type GrantShare, Owner } from '@xenkit/hypervisor'
import type { FrontRing } from '@xenkit/ring'
import type { SimDomain } from '@xenkit/sim'
import {
  type Abi,
  BLKIF_MAX_INDIRECT_PAGES_PER_REQUEST,
  BLKIF_MAX_SEGMENTS_PER_REQUEST,
  BLKIF_OP,
  blkif,
  sring,
} from '@xenkit/wire'
import { FrontendDevice, type OpenedRing } from '@xenkit/xenbus'
import { type XenstoreClient, openXenstore } from '@xenkit/xenstore-client'
import { openDiskRings } from '../../src/frontend/open-disk-rings.ts'
import { parseVdev } from '../../src/index.ts'

export interface RawSegment {
  gref?: number
  first?: number
  last?: number
}

export interface RawRequest {
  operation?: number
  id?: bigint
  sector?: bigint
  nr_segments?: number
  segments?: RawSegment[]
  /**
   * Makes the request an indirect one of this operation: the segments are sent in a page of their
   * own.
   */
  indirect_op?: number
  /** Grant reference to send for that page. Default: the right one. */
  indirectGref?: number
  /** Flags of a discard. */
  flag?: number
  nr_sectors?: bigint
}

export interface RawResponse {
  readonly id: bigint
  readonly operation: number
  readonly status: number
  /** All bytes of the response slot. */
  readonly slot: Uint8Array
}

export interface RawFrontendOptions {
  vdev?: string
  abi?: Abi
  queues?: number
  ringPageOrder?: number
  /** Number of data pages, which are granted writable. */
  dataPages?: number
  persistent?: boolean
  /** Nodes to publish with these values instead of the right ones; undefined leaves a node out. */
  nodes?: Record<string, string | undefined>
}

interface RawFrontendParts {
  readonly device: FrontendDevice
  readonly xs: XenstoreClient
  readonly rings: readonly OpenedRing<FrontRing>[]
  /** Owns everything open except the device. */
  readonly owner: Owner
  readonly data: GrantShare
  readonly lists: GrantShare
  readonly abi: Abi
}

/** Most indirect requests in flight. */
const LISTS = 32

export class RawFrontend implements AsyncDisposable {
  readonly device: FrontendDevice
  readonly xs: XenstoreClient
  readonly rings: readonly OpenedRing<FrontRing>[]
  /** The first ring. */
  readonly ring: FrontRing
  readonly channel: EventChannel
  readonly data: GrantShare
  readonly abi: Abi
  /** Pages for indirect segments, used in turn. */
  readonly lists: GrantShare
  readonly #owner: Owner
  #nextList = 0

  private constructor(o: RawFrontendParts) {
    this.device = o.device
    this.xs = o.xs
    this.rings = o.rings
    this.#owner = o.owner
    const { ring, channel } = this.#ringOf(0)
    this.ring = ring
    this.channel = channel
    this.data = o.data
    this.lists = o.lists
    this.abi = o.abi
  }

  static async open(guest: SimDomain, o: RawFrontendOptions = {}): Promise<RawFrontend> {
    const {
      vdev = 'xvda',
      abi = 'x86_64',
      queues = 1,
      ringPageOrder = 0,
      dataPages = 1,
      persistent = false,
      nodes = {},
    } = o
    const xs = await openXenstore(guest.xenstore)
    const device = await FrontendDevice.open(xs, {
      domid: guest.domid,
      type: 'vbd',
      devid: parseVdev(vdev),
    })
    const domid = device.backendDomid
    const owner = new Owner()
    owner.own(xs)
    const share = (pages: number): GrantShare =>
      owner.own(guest.grants.share({ domid, pages, writable: true }))
    const how = { domid, abi, queues, ringPageOrder, persistent }
    const { rings, nodes: right } = openDiskRings(guest, owner, how)
    const published: Record<string, string | undefined> = { ...right, ...nodes }
    await device.publish(
      Object.fromEntries(
        Object.entries(published).flatMap(([name, value]) =>
          value === undefined ? [] : [[name, value]],
        ),
      ),
    )
    const pages = { data: share(dataPages), lists: share(LISTS) }
    return new RawFrontend({ device, xs, owner, rings, ...pages, abi })
  }

  /**
   * Writes a request into the next slot without publishing it. Default: one whole page of data at
   * sector 0.
   */
  put(request: RawRequest = {}, queue = 0): void {
    const { ring, bytes } = this.#ringOf(queue)
    const at = ring.reserveRequest()
    if (request.indirect_op !== undefined) this.#putIndirect(request, bytes, at)
    else if (request.operation === BLKIF_OP.DISCARD) this.#putDiscard(request, bytes, at)
    else this.#putPlain(request, bytes, at)
  }

  /** Sends requests and waits for as many responses. */
  async exchange(...requests: RawRequest[]): Promise<RawResponse[]> {
    for (const request of requests) this.put(request)
    this.send()
    return this.responses(requests.length)
  }

  send(queue = 0): void {
    const { ring, channel } = this.#ringOf(queue)
    ring.publish()
    channel.notify()
  }

  async responses(count: number, queue = 0): Promise<RawResponse[]> {
    const { ring, channel } = this.#ringOf(queue)
    const { response, slotSize } = blkif[this.abi]
    const responses: RawResponse[] = []
    for (;;) {
      const drained = ring.drain(ring.size)
      const image = new Uint8Array(ring.image)
      for (let i = 0; i < drained; i++) {
        const slot = image.slice(ring.messageAt(i), ring.messageAt(i) + slotSize)
        const { id, operation, status } = response.decode(slot)
        responses.push({ id, operation, status, slot })
      }
      if (responses.length >= count) return responses
      if (!ring.finalCheck()) await channel.wait()
    }
  }

  /** Sets an index word of the shared page. */
  poke(index: 'req_prod' | 'req_event' | 'rsp_prod' | 'rsp_event', value: number): void {
    Atomics.store(
      new Uint32Array(this.ring.bytes.buffer, this.ring.bytes.byteOffset, 4),
      sring.at[index] / 4,
      value >>> 0,
    )
  }

  /** Closes the device and frees everything. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.device.close()
    this.release()
  }

  /** Frees everything without telling the backend. */
  release(): void {
    this.#owner.close()
  }

  #ringOf(queue: number): OpenedRing<FrontRing> {
    const ring = this.rings[queue]
    if (!ring) throw new RangeError(`there is no queue ${queue}`)
    return ring
  }

  #segments(segments: readonly RawSegment[], count: number) {
    return Array.from({ length: count }, (_, i) => {
      const { gref = this.data.grefs[0] ?? 0, first = 0, last = 7 } = segments[i] ?? {}
      return { gref, first_sect: first, last_sect: last, _pad: [0xee, 0xee] }
    })
  }

  get #hole(): number[] {
    return Array.from({ length: blkif[this.abi].request.at.id - 4 }, () => 0xee)
  }

  #putPlain(
    {
      operation = BLKIF_OP.READ,
      id = 1n,
      sector = 0n,
      segments = [{}],
      nr_segments = segments.length,
    }: RawRequest,
    bytes: Uint8Array,
    at: number,
  ): void {
    const seg = this.#segments(segments, BLKIF_MAX_SEGMENTS_PER_REQUEST)
    blkif[this.abi].request.encode(
      { operation, nr_segments, handle: 0, _pad: this.#hole, id, sector_number: sector, seg },
      bytes,
      at,
    )
  }

  #putDiscard(
    { operation = BLKIF_OP.DISCARD, id = 1n, sector = 0n, flag = 0, nr_sectors = 8n }: RawRequest,
    bytes: Uint8Array,
    at: number,
  ): void {
    blkif[this.abi].discard.encode(
      { operation, flag, handle: 0, _pad: this.#hole, id, sector_number: sector, nr_sectors },
      bytes,
      at,
    )
  }

  #putIndirect(request: RawRequest, bytes: Uint8Array, at: number): void {
    const { indirect, segment } = blkif[this.abi]
    const {
      indirect_op = BLKIF_OP.READ,
      id = 1n,
      sector = 0n,
      segments = [{}],
      nr_segments = segments.length,
    } = request
    const list = this.#nextList++ % LISTS
    for (const [i, each] of this.#segments(segments, segments.length).entries()) {
      segment.encode(each, this.lists.bytes, list * 4096 + i * segment.size)
    }
    const gref = request.indirectGref ?? this.lists.grefs[list] ?? 0
    const indirect_grefs = Array.from({ length: BLKIF_MAX_INDIRECT_PAGES_PER_REQUEST }, (_, i) =>
      i === 0 ? gref : 0xffff_ffff,
    )
    const pads = {
      _pad0: this.#hole,
      _pad1: [0xee, 0xee],
      _pad2: Array.from({ length: this.abi === 'x86_32' ? 8 : 4 }, () => 0xee),
    }
    indirect.encode(
      {
        operation: BLKIF_OP.INDIRECT,
        indirect_op,
        nr_segments,
        id,
        sector_number: sector,
        handle: 0,
        indirect_grefs,
        ...pads,
      },
      bytes,
      at,
    )
  }
}
