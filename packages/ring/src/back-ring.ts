/**
 * The backend's end of a ring: consumes requests, produces responses. Follows
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
 * Serving a ring on every event:
 *
 *     do {
 *       for (let n; (n = ring.drain(ring.size)) > 0; ) {
 *         // run the n requests, the i-th at ring.messageAt(i) of ring.image; for each that is
 *         done: const at = ring.reserveResponse()   // write the response there, padding included
 *         if (ring.publish()) channel.notify()
 *       }
 *     } while (ring.finalCheck())
 *
 * A response may take the slot of a request that is still unanswered: that request lives in
 * `image`, until the next `drain`.
 */
export class BackRing extends RingEnd {
  /**
   * Binds to the ring that a frontend has set up.
   * @param o.index where to go on, 0..2^32 - 1: BACK_RING_ATTACH. By default rsp_prod as the page
   *   has it, so that requests which an earlier backend left unanswered come again. That is right
   *   where it answered in order or had answered everything; a new ring begins at 0 either way.
   * @throws RangeError if `bytes` isn't whole pages at a page boundary or no slot fits
   * @throws RingProtocolError if the page holds more requests than the ring has slots
   */
  static attach(o: RingMemory & { readonly index?: number }): BackRing {
    const { index = readIndex(o, 'rsp_prod') } = o
    expectInteger('index', index, 0, UINT32_MAX)
    return new BackRing(BACK, o, index)
  }

  /** Responses that were reserved since index 0, modulo 2^32. */
  get answered(): number {
    return this.producer >>> 0
  }

  /** Requests that have been drained and have no response reserved. */
  get unanswered(): number {
    return (this.consumer - this.producer) >>> 0
  }

  /**
   * Takes the next response slot. The caller writes all of the response, its padding too, which
   * would otherwise show the frontend what the slot held before (XSA-216), and then publishes.
   * @returns the slot's offset in `bytes`
   * @throws RangeError if no request is unanswered
   */
  reserveResponse(): number {
    if (this.producer === this.consumer) {
      throw new RangeError(`no request is unanswered: ${this.toString()}`)
    }
    return this.produce()
  }
}
