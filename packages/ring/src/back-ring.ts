/**
 * The backend's end of a ring: consumes requests and produces responses. Follows
 * xen/include/public/io/ring.h.
 */
import { UINT32_MAX, expectInteger } from '@xenkit/hypervisor'
import { RingEnd, readIndex, type RingMemory, type RingSide } from './ring-end.ts'

const BACK: RingSide = {
  name: 'back',
  produces: 'rsp_prod',
  consumes: 'req_prod',
  heeds: 'rsp_event',
  arms: 'req_event',
  producer: 'rsp_prod_pvt',
  consumer: 'req_cons',
}

/**
 * The backend's end of a ring. Serve the ring on every event like this:
 *
 *     do {
 *       for (let n; (n = ring.drain(ring.size)) > 0; ) {
 *         // run the n requests: request i is at ring.messageAt(i) of ring.image
 *         // for each request that is complete:
 *         const at = ring.reserveResponse() // write the response there, padding included
 *         if (ring.publish()) channel.notify()
 *       }
 *     } while (ring.finalCheck())
 *
 * A response may take the slot of a request that isn't answered yet: that request stays in
 * `image` until the next `drain`.
 */
export class BackRing extends RingEnd {
  /**
   * Binds to the ring that a frontend has set up.
   * @param o.index where both private indices start, 0..2^32 - 1: BACK_RING_ATTACH. Default:
   *   rsp_prod of the page, so that requests which an earlier backend left unanswered are consumed
   *   again. That is right if it answered in order, or had answered everything. A new ring starts
   *   at 0 either way.
   * @throws RangeError if `bytes` isn't whole pages at a page boundary, or no slot fits
   * @throws RingProtocolError if the page holds more requests than the ring has slots
   */
  static attach(o: RingMemory & { readonly index?: number }): BackRing {
    const { index = readIndex(o, 'rsp_prod') } = o
    expectInteger('index', index, 0, UINT32_MAX)
    return new BackRing(BACK, o, index)
  }

  /** Number of responses reserved since index 0, modulo 2^32. */
  get answered(): number {
    return this.producer >>> 0
  }

  /** Number of drained requests for which no response was reserved. */
  get unanswered(): number {
    return (this.consumer - this.producer) >>> 0
  }

  /**
   * Takes the next response slot. The caller writes all of the response, including padding, and
   * then publishes. Padding left unwritten would show the frontend the slot's old contents
   * (XSA-216).
   * @returns the slot's offset in `bytes`
   * @throws RangeError if every drained request has a response
   */
  reserveResponse(): number {
    if (this.producer === this.consumer) {
      throw new RangeError(`no request is unanswered: ${this.toString()}`)
    }
    return this.produce()
  }
}
