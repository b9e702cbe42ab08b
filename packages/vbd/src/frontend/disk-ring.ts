/** One ring of a disk, and its requests in flight. */
import type { EventChannel } from '@xenkit/evtchn'
import { RingProtocolError } from '@xenkit/hypervisor'
import type { FrontRing } from '@xenkit/ring'
import { BLKIF_OP, BLKIF_RSP, type BlkifLayout } from '@xenkit/wire'
import type { OpenedRing } from '@xenkit/xenbus'
import { type GrantedPage, drain, fill } from './granted-pages.ts'
import { type DiskRequest, RequestEncoder } from './request-encoder.ts'

/** Parts of a `DiskRing`. */
export interface DiskRingParts {
  readonly opened: OpenedRing<FrontRing>
  readonly layout: BlkifLayout
  /** Most requests in flight. */
  readonly depth: number
}

/** A request in flight, with the granted pages of its data. */
export interface InFlight {
  readonly request: DiskRequest
  readonly pages: readonly GrantedPage[]
}

/** Submits requests to one ring of a disk, and matches the responses. */
export class DiskRing {
  readonly channel: EventChannel
  readonly #ring: FrontRing
  readonly #layout: BlkifLayout
  readonly #encoder: RequestEncoder
  readonly #inFlight: (InFlight | undefined)[]
  readonly #free: number[]
  /**
   * Reuse count of each row, part of the request's id: a response to an earlier request of the row
   * is refused.
   */
  readonly #generation: Uint32Array

  constructor({ opened: { ring, bytes, channel }, layout, depth }: DiskRingParts) {
    const rows = Math.min(depth, ring.size)
    this.channel = channel
    this.#ring = ring
    this.#layout = layout
    this.#encoder = new RequestEncoder(layout, bytes)
    this.#inFlight = Array.from({ length: rows })
    this.#free = Array.from({ length: rows }, (_, i) => rows - 1 - i)
    this.#generation = new Uint32Array(rows)
  }

  /** How many requests can be submitted now. */
  get room(): number {
    return this.#free.length
  }

  /**
   * Writes a request into the next slot. `pages` hold its data until it is answered.
   * @throws RangeError if `room` is 0
   */
  put(request: DiskRequest, pages: readonly GrantedPage[]): void {
    const row = this.#free.pop()
    if (row === undefined) throw new RangeError('the ring has no free slot: check "room" first')
    if (request.operation !== BLKIF_OP.READ) fill(pages, request.data)
    this.#encoder.encode(
      request,
      this.#ring.reserveRequest(),
      { low: row, high: this.#generation[row] ?? 0 },
      pages,
    )
    this.#inFlight[row] = { request, pages }
  }

  /** Publishes the requests that were put, and notifies the backend if it needs that. */
  publish(): void {
    if (this.#ring.publish()) this.channel.notify()
  }

  /**
   * Takes all responses on the ring. Data of a read is in the request's buffers when `answered` is
   * called.
   * @throws RingProtocolError for a response to a request that isn't in flight
   */
  drain(answered: (which: InFlight, status: number) => void): void {
    const { at } = this.#layout.response
    const ring = this.#ring
    const image = new DataView(ring.image)
    do {
      for (let count = ring.drain(ring.size); count > 0; count = ring.drain(ring.size)) {
        for (let i = 0; i < count; i++) {
          const base = ring.messageAt(i)
          const operation = image.getUint8(base + at.operation)
          const status = image.getInt16(base + at.status, true)
          const which = this.#finish(
            image.getUint32(base + at.id, true),
            image.getUint32(base + at.id + 4, true),
            operation,
          )
          if (operation === BLKIF_OP.READ && status === BLKIF_RSP.OKAY) {
            drain(which.pages, which.request.data)
          }
          answered(which, status)
        }
      }
    } while (ring.finalCheck())
  }

  /**
   * Removes all requests in flight, for the caller to fail. The backend may still write to their
   * pages.
   */
  drop(): DiskRequest[] {
    const dropped = this.#inFlight.flatMap((which) => which?.request ?? [])
    this.#inFlight.fill(undefined)
    return dropped
  }

  #finish(row: number, generation: number, operation: number): InFlight {
    const which = this.#inFlight[row]
    if (
      which === undefined ||
      this.#generation[row] !== generation ||
      which.request.operation !== operation
    ) {
      throw new RingProtocolError('the backend answered a request that was not sent', {
        indices: this.#ring.indices(),
      })
    }
    this.#inFlight[row] = undefined
    this.#generation[row] = generation + 1
    this.#free.push(row)
    return which
  }
}
