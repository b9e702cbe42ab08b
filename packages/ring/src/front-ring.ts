/**
 * The frontend's end of a ring: produces requests and consumes responses. Follows
 * xen/include/public/io/ring.h.
 */
import { UINT32_MAX, expectInteger } from '@xenkit/hypervisor'
import { sring } from '@xenkit/wire'
import { RingEnd, type RingMemory, type RingSide } from './ring-end.ts'

const FRONT: RingSide = {
  name: 'front',
  produces: 'req_prod',
  consumes: 'rsp_prod',
  heeds: 'req_event',
  arms: 'rsp_event',
  producer: 'req_prod_pvt',
  consumer: 'rsp_cons',
}

/**
 * The frontend's end of a ring. Responses arrive in any order and name their request by id; a
 * response's slot has no meaning. Call `finalCheck` when `drain` has returned 0, before waiting for
 * an event.
 */
export class FrontRing extends RingEnd {
  /**
   * Formats the pages as an empty ring and binds to it. Call this only before the backend connects.
   * @throws RangeError if `bytes` isn't whole pages at a page boundary, or no slot fits
   */
  static init(o: RingMemory): FrontRing {
    sring.encode({ req_prod: 0, req_event: 1, rsp_prod: 0, rsp_event: 1 }, o.bytes)
    return new FrontRing(FRONT, o, 0)
  }

  /**
   * Binds to a formatted ring whose requests were all answered: FRONT_RING_ATTACH.
   * @param o.index value of both producer indices, 0..2^32 - 1
   * @throws RangeError if `bytes` isn't whole pages at a page boundary, or no slot fits
   * @throws RingProtocolError if rsp_prod isn't `index`
   */
  static attach(o: RingMemory & { readonly index: number }): FrontRing {
    expectInteger('index', o.index, 0, UINT32_MAX)
    return new FrontRing(FRONT, o, o.index)
  }

  /**
   * Number of requests that can be reserved. A slot is free once its request's response was
   * drained.
   */
  get free(): number {
    return this.size - ((this.producer - this.consumer) >>> 0)
  }

  /**
   * Takes the next request slot. The caller writes the request there and calls `publish`.
   * @returns the slot's offset in `bytes`
   * @throws RangeError if the ring is full
   */
  reserveRequest(): number {
    if (this.free === 0) throw new RangeError(`the ring is full: ${this.toString()}`)
    return this.produce()
  }
}
