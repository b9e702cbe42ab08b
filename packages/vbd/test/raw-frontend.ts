/** A frontend without manners: publishes and sends whatever a test tells it to. */
import { EventChannel } from '@xenkit/evtchn'
import type { GrantShare } from '@xenkit/hypervisor'
import { FrontRing } from '@xenkit/ring'
import type { SimDomain } from '@xenkit/sim'
import { type Abi, BLKIF_MAX_SEGMENTS_PER_REQUEST, BLKIF_OP, blkif, sring } from '@xenkit/wire'
import { FrontendDevice } from '@xenkit/xenbus'
import { type XenstoreClient, openXenstore } from '@xenkit/xenstore-client'
import { ringNodes } from '../src/nodes.ts'
import { parseVdev } from '../src/index.ts'

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
}

export interface RawResponse {
  readonly id: bigint
  readonly operation: number
  readonly status: number
  /** The response slot, whole. */
  readonly slot: Uint8Array
}

export class RawFrontend implements AsyncDisposable {
  readonly device: FrontendDevice
  readonly xs: XenstoreClient
  readonly ring: FrontRing
  readonly ringShare: GrantShare
  /** One page of data, granted writable. */
  readonly data: GrantShare
  readonly channel: EventChannel
  readonly abi: Abi

  private constructor(o: { device: FrontendDevice; xs: XenstoreClient; ring: FrontRing; ringShare: GrantShare; data: GrantShare; channel: EventChannel; abi: Abi }) {
    this.device = o.device
    this.xs = o.xs
    this.ring = o.ring
    this.ringShare = o.ringShare
    this.data = o.data
    this.channel = o.channel
    this.abi = o.abi
  }

  /** @param o.nodes what to publish otherwise than right; undefined leaves a node out */
  static async open(guest: SimDomain, o: { vdev?: string; abi?: Abi; nodes?: Record<string, string | undefined> } = {}): Promise<RawFrontend> {
    const { vdev = 'xvda', abi = 'x86_64', nodes = {} } = o
    const xs = await openXenstore(guest.xenstore)
    const device = await FrontendDevice.open(xs, { domid: guest.domid, type: 'vbd', devid: parseVdev(vdev) })
    const ringShare = guest.grants.share({ domid: device.backendDomid, pages: 1, writable: true })
    const data = guest.grants.share({ domid: device.backendDomid, pages: 1, writable: true })
    const ring = FrontRing.init({ bytes: ringShare.bytes, slotSize: blkif[abi].slotSize })
    const channel = EventChannel.bindUnbound(guest.evtchn, { domid: device.backendDomid })
    const published: Record<string, string | undefined> = { ...ringNodes({ grefs: ringShare.grefs, port: channel.port, abi, ringPageOrder: 0 }), ...nodes }
    await device.publish(Object.fromEntries(Object.entries(published).flatMap(([name, value]) => (value === undefined ? [] : [[name, value]]))))
    return new RawFrontend({ device, xs, ring, ringShare, data, channel, abi })
  }

  /** Writes a request into the next slot without publishing it. By default: one whole page of data, sector 0. */
  put({ operation = BLKIF_OP.READ, id = 1n, sector = 0n, segments = [{}], nr_segments = segments.length }: RawRequest = {}): void {
    const { request } = blkif[this.abi]
    const at = this.ring.reserveRequest()
    const seg = Array.from({ length: BLKIF_MAX_SEGMENTS_PER_REQUEST }, (_, i) => {
      const { gref = this.data.grefs[0] ?? 0, first = 0, last = 7 } = segments[i] ?? {}
      return { gref, first_sect: first, last_sect: last, _pad: [0xee, 0xee] }
    })
    const hole = request.at.id - 4
    request.encode({ operation, nr_segments, handle: 0, _pad: Array.from({ length: hole }, () => 0xee), id, sector_number: sector, seg }, this.ringShare.bytes, at)
  }

  /** Publishes what was put and waits for as many responses. */
  async exchange(...requests: RawRequest[]): Promise<RawResponse[]> {
    for (const request of requests) this.put(request)
    this.ring.publish()
    this.channel.notify()
    return this.responses(requests.length)
  }

  async responses(count: number): Promise<RawResponse[]> {
    const { response, slotSize } = blkif[this.abi]
    const responses: RawResponse[] = []
    for (;;) {
      const drained = this.ring.drain(this.ring.size)
      const image = new Uint8Array(this.ring.image)
      for (let i = 0; i < drained; i++) {
        const slot = image.slice(i * this.ring.imageStride, i * this.ring.imageStride + slotSize)
        const { id, operation, status } = response.decode(slot)
        responses.push({ id, operation, status, slot })
      }
      if (responses.length >= count) return responses
      if (!this.ring.finalCheck()) await this.channel.wait()
    }
  }

  /** Sets an index word of the shared page. */
  poke(index: 'req_prod' | 'req_event' | 'rsp_prod' | 'rsp_event', value: number): void {
    Atomics.store(new Uint32Array(this.ringShare.bytes.buffer, this.ringShare.bytes.byteOffset, 4), sring.at[index] / 4, value >>> 0)
  }

  /** Closes the device and gives everything back. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.device.close()
    this.release()
  }

  /** Gives everything back without a word to the backend. */
  release(): void {
    this.channel.close()
    this.ringShare.close()
    this.data.close()
    this.xs.close()
  }
}
