/**
 * One ring of a connected disk: drains requests, moves their data by grant copy, runs them on the
 * store and answers.
 *
 * A turn takes what the ring holds: all slots are copied and checked, one grant-copy call fetches the
 * data of all writes, requests for neighbouring sectors become one store call. Completions gather
 * until half of what is in flight is done (16 at most), then one grant-copy call delivers the data of
 * all reads and one store of rsp_prod publishes every answer.
 *
 * With copies a guest page is touched only inside those two calls: nothing of the guest's is held
 * while the store works, and data can't change between being checked and being written.
 */
import { type EventChannel } from '@xenkit/evtchn'
import { type GrantCopier } from '@xenkit/grant'
import { type BackRing } from '@xenkit/ring'
import { BLKIF_MAX_SEGMENTS_PER_REQUEST, BLKIF_OP, BLKIF_RSP, type BlkifLayout } from '@xenkit/wire'
import { type BlockStore, bytesMoved } from '../block-store.ts'
import type { Requests } from './requests.ts'
import type { VbdCounters } from './stats.ts'

/** Most answers that wait for company; publishing every 4 instead measured a third slower at depth 32. */
const PUBLISH_AT_MOST = 16

/** Least time between two reports of a failing store. */
const TELL_INTERVAL_MS = 1_000

export interface VbdQueueParts {
  readonly ring: BackRing
  readonly channel: EventChannel
  readonly copier: GrantCopier
  readonly requests: Requests
  readonly layout: BlkifLayout
  readonly store: BlockStore
  readonly counters: VbdCounters
  /** The guest broke the ring's rules, or the hypervisor refused a whole call: the queue has stopped. */
  readonly failed: (error: unknown) => void
  /**
   * A store call threw, rejected or fell short; its requests were answered with an error. Told once until
   * a call succeeds again, and once a second at most: a guest decides what it reads and how often, and
   * must not fill a log with it (XSA-157).
   */
  readonly storeFailed: (error: unknown) => void
}

export class VbdQueue {
  readonly #p: VbdQueueParts
  readonly #rsp32: Uint32Array
  readonly #rspWords: number
  readonly #done: Uint16Array
  #doneCount = 0
  #inFlight = 0
  #dispatching = false
  #turnPlanned = false
  #finishPlanned = false
  /** Rows ran out while the ring may hold more. */
  #starved = false
  /** No more requests are taken. */
  #stopped = false
  /** No more answers are given either: the ring can't be trusted. */
  #broken = false
  #storeFailing = false
  /** When that was last told of. */
  #toldAt = -TELL_INTERVAL_MS
  #settled: (() => void) | undefined

  constructor(parts: VbdQueueParts) {
    this.#p = parts
    const { bytes } = parts.ring
    this.#rsp32 = new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 4)
    this.#rspWords = parts.layout.response.size / 4
    this.#done = new Uint16Array(parts.requests.freeCount)
  }

  /**
   * Takes requests until the ring is empty, rows run out or every slot of the ring had its turn once:
   * then the event loop goes round before the guest gets another. Call it on every event.
   */
  turn(): void {
    if (this.#stopped || this.#dispatching) return
    this.#dispatching = true
    try {
      this.#drain()
    } catch (error) {
      this.#stop(error)
    } finally {
      this.#dispatching = false
    }
    this.#answerIfWorthwhile()
  }

  /** Stops taking requests and waits until the store has let go of those in flight, which are answered. */
  async settle(): Promise<void> {
    this.#stopped = true
    if (this.#doneCount > 0) this.#answer()
    if (this.#inFlight > 0) await new Promise<void>((resolve) => (this.#settled = resolve))
  }

  #drain(): void {
    const { ring, requests } = this.#p
    let budget = ring.size
    while (requests.freeCount > 0) {
      if (budget === 0) return this.#planTurn()
      const count = ring.drain(Math.min(requests.freeCount, budget))
      if (count > 0) this.#dispatch(count)
      else if (!ring.finalCheck()) return
      budget -= count
    }
    this.#starved = true
  }

  #planTurn(): void {
    if (this.#turnPlanned) return
    this.#turnPlanned = true
    setImmediate(() => {
      this.#turnPlanned = false
      this.turn()
    })
  }

  /** Decodes the first `count` requests of the ring's image, fetches what they write and starts them. */
  #dispatch(count: number): void {
    const { ring, requests, copier } = this.#p
    const rows: number[] = []
    copier.reset()
    for (let i = 0; i < count; i++) {
      const row = requests.take()
      this.#inFlight++
      const status = requests.decode(row, i * ring.imageStride)
      if (status === BLKIF_RSP.OKAY) {
        rows.push(row)
        if (requests.operation[row] !== BLKIF_OP.READ) this.#addCopies(row)
      } else {
        this.#complete(row, status)
      }
    }
    this.#fetch(rows)
    this.#start(rows)
  }

  /** Copies the data of writes in. */
  #fetch(rows: number[]): void {
    const { copier } = this.#p
    if (copier.count === 0) return
    try {
      if (copier.copyIn() > 0) this.#refuseFailedCopies(rows)
    } catch (error) {
      // They never get to the store: nobody else would end them, and `settle` would wait for ever.
      for (const row of rows) this.#complete(row, BLKIF_RSP.ERROR)
      throw error
    }
  }

  /** Requests whose data could not be fetched are answered with an error and never reach the store. */
  #refuseFailedCopies(rows: number[]): void {
    const { requests } = this.#p
    let copy = 0
    for (let i = 0; i < rows.length; i++) {
      const row = rows[i] ?? 0
      if (requests.operation[row] === BLKIF_OP.READ) continue
      const segments = requests.segmentCount[row] ?? 0
      if (this.#anyFailed(copy, segments)) {
        this.#complete(row, BLKIF_RSP.ERROR)
        rows.splice(i--, 1)
      }
      copy += segments
    }
  }

  #anyFailed(first: number, count: number): boolean {
    const { status } = this.#p.copier
    for (let i = first; i < first + count; i++) if (status[i] !== 0) return true
    return false
  }

  #addCopies(row: number): void {
    const { requests, copier } = this.#p
    let local = requests.localOffset(row)
    const first = row * BLKIF_MAX_SEGMENTS_PER_REQUEST
    for (let i = first, end = first + (requests.segmentCount[row] ?? 0); i < end; i++) {
      const length = requests.length[i] ?? 0
      copier.add(requests.gref[i] ?? 0, requests.offset[i] ?? 0, length, local)
      local += length
    }
  }

  /** Starts requests in order; runs of the same operation on consecutive sectors are one store call. */
  #start(rows: readonly number[]): void {
    const { requests } = this.#p
    for (let i = 0; i < rows.length; ) {
      const first = rows[i] ?? 0
      const operation = requests.operation[first]
      let next = (requests.sector[first] ?? 0) + (requests.bytes[first] ?? 0) / 512
      let end = i + 1
      if (operation !== BLKIF_OP.FLUSH_DISKCACHE) {
        for (let row = rows[end]; row !== undefined && requests.operation[row] === operation && requests.sector[row] === next; row = rows[++end]) {
          next += (requests.bytes[row] ?? 0) / 512
        }
      }
      this.#run(rows.slice(i, end))
      i = end
    }
  }

  #run(rows: readonly number[]): void {
    const { requests, store } = this.#p
    const first = rows[0] ?? 0
    const sector = requests.sector[first] ?? 0
    const data = rows.map((row) => requests.data(row)).filter((piece) => piece.length > 0)
    const expected = data.reduce((sum, piece) => sum + piece.length, 0)
    let result
    try {
      result = this.#call(store, requests.operation[first] ?? 0, sector, data)
    } catch (error) {
      return this.#failRun(rows, error)
    }
    if (!isPromise(result)) return this.#completeRun(rows, expected, result)
    // `resolve` gives back a promise as it is; of what else has a `then`, it takes the first word only.
    Promise.resolve(result).then(
      (value) => this.#completeRun(rows, expected, value),
      (error: unknown) => this.#failRun(rows, error),
    )
  }

  #call(store: BlockStore, operation: number, sector: number, data: Uint8Array[]): unknown {
    if (operation === BLKIF_OP.READ) return store.read(sector, data)
    if (operation === BLKIF_OP.WRITE) return store.write?.(sector, data)
    // A flush with data makes what came before it durable, then writes (Linux: REQ_PREFLUSH).
    const flushed = store.flush?.()
    if (data.length === 0) return flushed
    return isPromise(flushed) ? Promise.resolve(flushed).then(() => store.write?.(sector, data)) : store.write?.(sector, data)
  }

  /** @param result what the store gave back, which no type checker may have seen */
  #completeRun(rows: readonly number[], expected: number, result: unknown): void {
    const moved = result === undefined ? expected : bytesMoved(result)
    if (moved === undefined) return this.#failRun(rows, new TypeError(`the store gave ${inspected(result)}, expected nothing, { bytesRead } or { bytesWritten }`))
    if (moved !== expected) return this.#failRun(rows, new RangeError(`the store moved ${moved} of ${expected} bytes`))
    this.#storeFailing = false
    for (const row of rows) this.#complete(row, BLKIF_RSP.OKAY)
    this.#answerIfWorthwhile()
  }

  #failRun(rows: readonly number[], error: unknown): void {
    if (rows.length > 1) {
      // One by one, so that one bad sector fails one request.
      for (const row of rows) this.#run([row])
      return
    }
    for (const row of rows) this.#complete(row, BLKIF_RSP.ERROR)
    const now = performance.now()
    if (!this.#storeFailing && now - this.#toldAt >= TELL_INTERVAL_MS) {
      this.#toldAt = now
      this.#p.storeFailed(error)
    }
    this.#storeFailing = true
    this.#answerIfWorthwhile()
  }

  #complete(row: number, status: number): void {
    this.#p.requests.status[row] = status
    this.#done[this.#doneCount++] = row
    this.#inFlight--
  }

  /** Answers now if half of what is outstanding is done, else when the event loop has gone round. */
  #answerIfWorthwhile(): void {
    if (this.#doneCount === 0 || this.#dispatching) return
    if (this.#doneCount >= Math.min(PUBLISH_AT_MOST, this.#inFlight)) return this.#answer()
    if (this.#finishPlanned) return
    this.#finishPlanned = true
    setImmediate(() => {
      this.#finishPlanned = false
      if (this.#doneCount > 0) this.#answer()
    })
  }

  #answer(): void {
    if (this.#broken) {
      this.#doneCount = 0
    } else {
      try {
        this.#deliverReads()
        this.#respond()
      } catch (error) {
        this.#stop(error)
      }
    }
    if (this.#inFlight === 0) this.#settled?.()
    if (this.#starved) {
      this.#starved = false
      this.#planTurn()
    }
  }

  #deliverReads(): void {
    const { requests, copier } = this.#p
    copier.reset()
    for (let i = 0; i < this.#doneCount; i++) {
      const row = this.#done[i] ?? 0
      if (this.#wasRead(row)) this.#addCopies(row)
    }
    if (copier.count === 0 || copier.copyOut() === 0) return
    let copy = 0
    for (let i = 0; i < this.#doneCount; i++) {
      const row = this.#done[i] ?? 0
      if (!this.#wasRead(row)) continue
      const segments = requests.segmentCount[row] ?? 0
      if (this.#anyFailed(copy, segments)) requests.status[row] = BLKIF_RSP.ERROR
      copy += segments
    }
  }

  #wasRead(row: number): boolean {
    const { requests } = this.#p
    return requests.status[row] === BLKIF_RSP.OKAY && requests.operation[row] === BLKIF_OP.READ
  }

  #respond(): void {
    const { ring, requests, channel, layout, counters } = this.#p
    const { at } = layout.response
    const rsp32 = this.#rsp32
    for (let i = 0; i < this.#doneCount; i++) {
      const row = this.#done[i] ?? 0
      const operation = requests.operation[row] ?? 0
      const status = requests.status[row] ?? 0
      const word = ring.reserveResponse() >> 2
      rsp32[word + (at.id >> 2)] = requests.idLow[row] ?? 0
      rsp32[word + (at.id >> 2) + 1] = requests.idHigh[row] ?? 0
      // operation@8, a byte of padding, status@10; the tail of the 64-bit layouts is padding too. All
      // of it is written, so that nothing of an earlier slot is taken for part of the answer (XSA-216).
      rsp32[word + (at.operation >> 2)] = operation | ((status & 0xffff) << 16)
      for (let pad = (at.operation >> 2) + 1; pad < this.#rspWords; pad++) rsp32[word + pad] = 0
      counters.count(operation, status, requests.bytes[row] ?? 0)
      requests.release(row)
    }
    this.#doneCount = 0
    if (ring.publish()) channel.notify()
  }

  #stop(error: unknown): void {
    this.#stopped = true
    this.#broken = true
    this.#doneCount = 0
    this.#p.failed(error)
  }
}

const isPromise = (value: unknown): value is PromiseLike<unknown> => typeof value === 'object' && value !== null && 'then' in value

const inspected = (value: unknown): string => (typeof value === 'object' && value !== null ? `an object with "${Object.keys(value).join('", "')}"` : String(value))
