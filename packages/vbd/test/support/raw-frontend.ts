/** A frontend without manners: publishes and sends whatever a test tells it to. */
import { EventChannel } from '@xenkit/evtchn'
import type { GrantShare } from '@xenkit/hypervisor'
import { FrontRing } from '@xenkit/ring'
import type { SimDomain } from '@xenkit/sim'
import {
  type Abi,
  BLKIF_MAX_INDIRECT_PAGES_PER_REQUEST,
  BLKIF_MAX_SEGMENTS_PER_REQUEST,
  BLKIF_OP,
  blkif,
  sring,
} from '@xenkit/wire'
import { FrontendDevice } from '@xenkit/xenbus'
import { type XenstoreClient, openXenstore } from '@xenkit/xenstore-client'
import { ringNodes } from '../../src/nodes.ts'
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
  /** Sends the segments in a page of their own, as this kind of request. */
  indirect_op?: number
  /** Grant of that page, instead of the right one. */
  indirectGref?: number
  /** Of a discard. */
  flag?: number
  nr_sectors?: bigint
}

export interface RawResponse {
  readonly id: bigint
  readonly operation: number
  readonly status: number
  /** The response slot, whole. */
  readonly slot: Uint8Array
}

export interface RawFrontendOptions {
  vdev?: string
  abi?: Abi
  queues?: number
  ringPageOrder?: number
  /** Pages of data, granted writable. */
  dataPages?: number
  persistent?: boolean
  /** What to publish otherwise than right; undefined leaves a node out. */
  nodes?: Record<string, string | undefined>
}

/** One ring of it. */
interface RawRing {
  readonly share: GrantShare
  readonly ring: FrontRing
  readonly channel: EventChannel
}

interface RawFrontendParts {
  readonly device: FrontendDevice
  readonly xs: XenstoreClient
  readonly rings: readonly [RawRing, ...RawRing[]]
  readonly data: GrantShare
  readonly lists: GrantShare
  readonly abi: Abi
}

/** As many indirect requests may be on their way. */
const LISTS = 32

export class RawFrontend implements AsyncDisposable {
  readonly device: FrontendDevice
  readonly xs: XenstoreClient
  readonly rings: readonly RawRing[]
  /** The first ring. */
  readonly ring: FrontRing
  readonly ringShare: GrantShare
  readonly channel: EventChannel
  readonly data: GrantShare
  readonly abi: Abi
  /** Pages for indirect segments, used in turn. */
  readonly lists: GrantShare
  #nextList = 0

  private constructor(o: RawFrontendParts) {
    this.device = o.device
    this.xs = o.xs
    this.rings = o.rings
    this.ring = o.rings[0].ring
    this.ringShare = o.rings[0].share
    this.channel = o.rings[0].channel
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
    const share = (pages: number): GrantShare =>
      guest.grants.share({ domid: device.backendDomid, pages, writable: true })
    const openRing = (): RawRing => {
      const ringShare = share(1 << ringPageOrder)
      const ring = FrontRing.init({ bytes: ringShare.bytes, slotSize: blkif[abi].slotSize })
      return {
        share: ringShare,
        ring,
        channel: EventChannel.bindUnbound(guest.evtchn, { domid: device.backendDomid }),
      }
    }
    const rings = [openRing(), ...Array.from({ length: queues - 1 }, openRing)] as const
    const right = ringNodes({
      rings: rings.map((ring) => ({ grefs: ring.share.grefs, port: ring.channel.port })),
      abi,
      ringPageOrder,
      persistent,
    })
    const published: Record<string, string | undefined> = { ...right, ...nodes }
    await device.publish(
      Object.fromEntries(
        Object.entries(published).flatMap(([name, value]) =>
          value === undefined ? [] : [[name, value]],
        ),
      ),
    )
    return new RawFrontend({ device, xs, rings, data: share(dataPages), lists: share(LISTS), abi })
  }

  /**
   * Writes a request into the next slot without publishing it. By default: one whole page of data,
   * sector 0.
   */
  put(request: RawRequest = {}, queue = 0): void {
    const { ring, share } = this.#ringOf(queue)
    const at = ring.reserveRequest()
    if (request.indirect_op !== undefined) this.#putIndirect(request, share, at)
    else if (request.operation === BLKIF_OP.DISCARD) this.#putDiscard(request, share, at)
    else this.#putPlain(request, share, at)
  }

  /** Publishes what was put and waits for as many responses. */
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
      new Uint32Array(this.ringShare.bytes.buffer, this.ringShare.bytes.byteOffset, 4),
      sring.at[index] / 4,
      value >>> 0,
    )
  }

  /** Closes the device and gives everything back. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.device.close()
    this.release()
  }

  /** Gives everything back without a word to the backend. */
  release(): void {
    for (const { channel, share } of this.rings) {
      channel.close()
      share.close()
    }
    this.data.close()
    this.lists.close()
    this.xs.close()
  }

  #ringOf(queue: number): RawRing {
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
    share: GrantShare,
    at: number,
  ): void {
    const seg = this.#segments(segments, BLKIF_MAX_SEGMENTS_PER_REQUEST)
    blkif[this.abi].request.encode(
      { operation, nr_segments, handle: 0, _pad: this.#hole, id, sector_number: sector, seg },
      share.bytes,
      at,
    )
  }

  #putDiscard(
    { operation = BLKIF_OP.DISCARD, id = 1n, sector = 0n, flag = 0, nr_sectors = 8n }: RawRequest,
    share: GrantShare,
    at: number,
  ): void {
    blkif[this.abi].discard.encode(
      { operation, flag, handle: 0, _pad: this.#hole, id, sector_number: sector, nr_sectors },
      share.bytes,
      at,
    )
  }

  #putIndirect(request: RawRequest, share: GrantShare, at: number): void {
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
      share.bytes,
      at,
    )
  }
}
