/**
 * The frontend's requests in flight. A row owns eleven pages that are granted to the backend for the
 * disk's whole life, so that no request grants or revokes anything; data is copied in and out of them.
 */
import { PAGE_SIZE, type GrantShare } from '@xenkit/hypervisor'
import { BLKIF_MAX_SEGMENTS_PER_REQUEST, type BlkifLayout } from '@xenkit/wire'

/** Most sectors in one request: 11 pages of 8. */
export const MAX_REQUEST_SECTORS = BLKIF_MAX_SEGMENTS_PER_REQUEST * (PAGE_SIZE / 512)
export const PAGES_PER_ROW = BLKIF_MAX_SEGMENTS_PER_REQUEST

export interface DiskRequest {
  readonly operation: number
  readonly sector: number
  /** What is read into or written from; empty for a flush. */
  readonly data: readonly Uint8Array[]
  readonly bytes: number
  /** Told the status of the answer, or why there will be none. */
  readonly done: (result: number | Error) => void
}

export class RequestSlots {
  readonly #share: GrantShare
  readonly #layout: BlkifLayout
  readonly #ring8: Uint8Array
  readonly #ring32: Uint32Array
  readonly #pending: (DiskRequest | undefined)[]
  readonly #free: number[]
  /** Part of each id, so that an answer to an earlier user of the row is not taken for this one's. */
  readonly #generation: Uint32Array

  constructor(o: { rows: number; share: GrantShare; layout: BlkifLayout; ring: Uint8Array }) {
    this.#share = o.share
    this.#layout = o.layout
    this.#ring8 = o.ring
    this.#ring32 = new Uint32Array(o.ring.buffer, o.ring.byteOffset, o.ring.byteLength / 4)
    this.#pending = Array.from({ length: o.rows })
    this.#free = Array.from({ length: o.rows }, (_, i) => o.rows - 1 - i)
    this.#generation = new Uint32Array(o.rows)
  }

  get freeCount(): number {
    return this.#free.length
  }

  /** Writes a request into the ring slot at `slotOffset`, its data into the row's pages. */
  put(request: DiskRequest, slotOffset: number, write: boolean): void {
    const row = this.#free.pop()
    if (row === undefined) throw new RangeError('no free row: look at freeCount first')
    this.#pending[row] = request
    if (write) scatter(request.data, this.#bytesOf(row))
    const { request: fields, segment } = this.#layout
    const [ring8, ring32] = [this.#ring8, this.#ring32]
    const segments = Math.ceil(request.bytes / PAGE_SIZE)
    ring8.fill(0, slotOffset, slotOffset + fields.size)
    ring8[slotOffset + fields.at.operation] = request.operation
    ring8[slotOffset + fields.at.nr_segments] = segments
    ring32[(slotOffset + fields.at.id) >> 2] = row
    ring32[((slotOffset + fields.at.id) >> 2) + 1] = this.#generation[row] ?? 0
    ring32[(slotOffset + fields.at.sector_number) >> 2] = request.sector >>> 0
    ring32[((slotOffset + fields.at.sector_number) >> 2) + 1] = Math.floor(request.sector / 2 ** 32)
    for (let i = 0; i < segments; i++) {
      const at = slotOffset + fields.at.seg + i * segment.size
      ring32[(at + segment.at.gref) >> 2] = this.#share.grefs[row * PAGES_PER_ROW + i] ?? 0
      ring8[at + segment.at.last_sect] = Math.min(PAGE_SIZE, request.bytes - i * PAGE_SIZE) / 512 - 1
    }
  }

  /**
   * Ends the request with this id and frees its row.
   * @returns it, with what was read copied out; undefined if no request with that id and operation is in flight.
   */
  finish(idLow: number, idHigh: number, operation: number, readsBack: boolean): DiskRequest | undefined {
    const request = this.#pending[idLow]
    if (request === undefined || this.#generation[idLow] !== idHigh || request.operation !== operation) return undefined
    if (readsBack) gather(this.#bytesOf(idLow), request.data)
    this.#pending[idLow] = undefined
    this.#generation[idLow] = (this.#generation[idLow] ?? 0) + 1
    this.#free.push(idLow)
    return request
  }

  /** Ends everything in flight without an answer. */
  drop(): DiskRequest[] {
    const dropped = this.#pending.filter((request) => request !== undefined)
    this.#pending.fill(undefined)
    return dropped
  }

  #bytesOf(row: number): Uint8Array {
    const at = row * PAGES_PER_ROW * PAGE_SIZE
    return this.#share.bytes.subarray(at, at + PAGES_PER_ROW * PAGE_SIZE)
  }
}

function scatter(from: readonly Uint8Array[], into: Uint8Array): void {
  let at = 0
  for (const piece of from) {
    into.set(piece, at)
    at += piece.length
  }
}

function gather(from: Uint8Array, into: readonly Uint8Array[]): void {
  let at = 0
  for (const piece of into) {
    piece.set(from.subarray(at, at + piece.length))
    at += piece.length
  }
}
