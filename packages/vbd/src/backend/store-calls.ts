/**
 * Runs requests on the store: as few calls as possible, and whatever a call does, one word about
 * each request. Reads and writes of a store that takes them in batches go that way, without an
 * object for any.
 */
import {
  type BlockStore,
  bytesMoved,
  isPromise,
  type StoreBatch,
  type StoreJobs,
} from '@xenkit/block-store'
import type { GuestTurn } from '@xenkit/hypervisor'
import { BLKIF_OP, BLKIF_RSP } from '@xenkit/wire'
import { MAX_SEGMENTS } from '../nodes.ts'
import type { DataPath } from './data-path.ts'
import { discardInTurns, wholeGranules } from './discard-in-turns.ts'
import type { Requests } from './requests.ts'

/** Least time between two reports of a failing store. */
const TELL_INTERVAL_MS = 1_000

/** Most buffers of a call: the system takes as many at once (IOV_MAX). */
const MAX_VIEWS = 1_024

export interface StoreCallsParts {
  readonly store: BlockStore
  /** The store's, where it takes batches: a job for each row, of MAX_SEGMENTS pieces. */
  readonly batch: StoreBatch | undefined
  readonly requests: Requests
  readonly data: DataPath
  /** The turn that long discards are charged to. */
  readonly guestTurn: GuestTurn
  /** Whether the ring has stopped: no call of the store is made then, not a request's second. */
  readonly stopped: () => boolean
  /** Called when requests completed asynchronously, once for several: never within `start`. */
  readonly completed: () => void
  /**
   * A store call threw, rejected or fell short; its requests were answered with an error. Told once
   * until a call succeeds again, and once a second at most: a guest decides what it reads and how
   * often, and must not fill a log with it (XSA-157).
   */
  readonly storeFailed: (error: unknown) => void
}

export class StoreCalls {
  readonly #p: StoreCallsParts
  /** The batch deferred jobs until `proceed`. */
  #deferred = false
  #failing = false
  /** When that was last told of. */
  #toldAt = -TELL_INTERVAL_MS

  constructor(parts: StoreCallsParts) {
    this.#p = parts
  }

  /** Starts requests in order, except those that it has turned out can't be. */
  start(rows: Uint16Array, first: number, end: number): void {
    const { batch } = this.#p
    if (batch) this.#startBatch(batch, rows, first, end)
    else this.#startRuns(rows, first, end)
  }

  /** Submits what the batch deferred. @throws what the batch throws */
  proceed(): void {
    if (!this.#deferred) return
    this.#deferred = false
    this.#p.batch?.proceed()
  }

  #startBatch(batch: StoreBatch, rows: Uint16Array, first: number, end: number): void {
    const { requests } = this.#p
    const { operation, status } = requests
    const { list } = batch.jobs
    let listed = 0
    for (let i = first; i < end; i++) {
      const row = rows[i] ?? 0
      const kind = operation[row] ?? 0
      if (status[row] !== BLKIF_RSP.OKAY) requests.complete(row)
      else if (kind === BLKIF_OP.READ || kind === BLKIF_OP.WRITE) {
        this.#describe(row, batch.jobs)
        list[listed++] = row
      } else this.#run([row])
    }
    if (listed === 0) return
    let done
    try {
      done = batch.start(listed)
    } catch (error) {
      // None has begun.
      for (let i = 0; i < listed; i++) this.#fail(list[i] ?? 0, error)
      return
    }
    if (done < listed) this.#deferred = true
    for (let i = 0; i < done; i++) this.batchDone(list[i] ?? 0)
  }

  /** A row is the job with its number. */
  #describe(row: number, jobs: StoreJobs): void {
    const { operation, position, segmentCount, offset, length } = this.#p.requests
    const count = segmentCount[row] ?? 0
    // BLKIF_OP.READ and WRITE are 0 and 1, as a job has it.
    jobs.operation[row] = operation[row] ?? 0
    jobs.position[row] = position[row] ?? 0
    jobs.count[row] = count
    for (let i = row * MAX_SEGMENTS, end = i + count; i < end; i++) {
      jobs.offset[i] = offset[i] ?? 0
      jobs.bytes[i] = length[i] ?? 0
    }
  }

  /** Completes a row whose job is done. */
  batchDone(row: number): void {
    const bytes = this.#p.requests.bytes[row] ?? 0
    const result = this.#p.batch?.jobs.result[row] ?? 0
    if (result === bytes) this.#succeed(row)
    else {
      this.#fail(
        row,
        result < 0
          ? caught(() => this.#p.batch?.error(result))
          : new RangeError(`the store moved ${result} of ${bytes} bytes`),
      )
    }
  }

  /** Runs of reads or of writes on consecutive sectors are one call. */
  #startRuns(rows: Uint16Array, begin: number, end: number): void {
    const { requests } = this.#p
    for (let i = begin; i < end;) {
      const first = rows[i++] ?? 0
      if (requests.status[first] !== BLKIF_RSP.OKAY) {
        requests.complete(first)
        continue
      }
      const run = [first]
      const operation = requests.operation[first]
      let segments = requests.segmentCount[first] ?? 0
      if (operation === BLKIF_OP.READ || operation === BLKIF_OP.WRITE) {
        for (let last = first; i < end; i++) {
          const row = rows[i] ?? 0
          segments += requests.segmentCount[row] ?? 0
          const follows =
            requests.status[row] === BLKIF_RSP.OKAY &&
            requests.operation[row] === operation &&
            requests.sector(row) === requests.end(last)
          if (!follows || segments > MAX_VIEWS) break
          run.push((last = row))
        }
      }
      this.#run(run)
    }
  }

  #run(rows: readonly number[]): void {
    const { requests, data } = this.#p
    const views: Uint8Array[] = []
    for (const row of rows) data.addViews(row, views)
    const expected = views.reduce((sum, view) => sum + view.length, 0)
    const discards = requests.operation[rows[0] ?? 0] === BLKIF_OP.DISCARD
    const moves = discards ? undefined : expected
    let result
    try {
      result = this.#call(rows[0] ?? 0, views)
      if (isPromise(result)) {
        // `resolve` gives back a promise as it is; of what else has a `then`, it takes the first
        // word only.
        void Promise.resolve(result)
          .then(
            (value) => this.#complete(rows, moves, value),
            (error: unknown) => this.#failAll(rows, error),
          )
          .then(() => this.#p.completed())
        return
      }
    } catch (error) {
      return this.#failAll(rows, error)
    }
    this.#complete(rows, moves, result)
  }

  #call(row: number, views: Uint8Array[]): unknown {
    const { store, requests } = this.#p
    const sector = requests.sector(row)
    switch (requests.operation[row]) {
      case BLKIF_OP.READ:
        return store.read(sector, views)
      case BLKIF_OP.WRITE:
        return store.write?.(sector, views)
      case BLKIF_OP.DISCARD:
        return this.#discard(row)
      case BLKIF_OP.WRITE_BARRIER:
        return this.#barrier(sector, views)
      default: {
        // A flush with data makes what came before it durable, then writes (Linux: REQ_PREFLUSH).
        const flushed = store.flush?.()
        return views.length === 0 ? flushed : after(flushed, () => this.#write(sector, views))
      }
    }
  }

  /** After another call, which may have taken long. */
  #write(sector: number, views: Uint8Array[]): unknown {
    if (this.#p.stopped()) throw new Error('the request was given up before its data was written')
    return this.#p.store.write?.(sector, views)
  }

  /**
   * What came before is durable before its data is written, and its data before it is answered: old
   * blkfronts take a barrier for FUA.
   */
  #barrier(sector: number, views: Uint8Array[]): unknown {
    const { store } = this.#p
    const flushed = store.flush?.()
    if (views.length === 0) return flushed
    const written = after(flushed, () => this.#write(sector, views))
    return after(written, (result) => after(store.flush?.(), () => result))
  }

  /**
   * Cut to whole granules, since a discard is a hint; but one that must leave no copy is passed on
   * whole.
   */
  async #discard(row: number): Promise<void> {
    const { store, requests, guestTurn, stopped } = this.#p
    const range = { sector: requests.sector(row), end: requests.end(row) }
    const secure = requests.secure[row] === 1
    const given = secure ? range : wholeGranules(store, range)
    const isWhole = await discardInTurns({ ...given, secure, store, guestTurn, stopped })
    // No fault of the store's: the ring was given up.
    if (!isWhole) requests.status[row] = BLKIF_RSP.ERROR
  }

  /** @param result what the store gave back */
  #complete(rows: readonly number[], expected: number | undefined, result: unknown): void {
    const error =
      expected === undefined || result === undefined
        ? undefined
        : caught(() => wrongWith(result, expected))
    if (error !== undefined) return this.#failAll(rows, error)
    for (const row of rows) this.#succeed(row)
  }

  #failAll(rows: readonly number[], error: unknown): void {
    if (rows.length > 1 && !this.#p.stopped()) {
      // One by one, so that one bad sector fails one request.
      for (const row of rows) this.#run([row])
      return
    }
    for (const row of rows) this.#fail(row, error)
  }

  #succeed(row: number): void {
    this.#failing = false
    this.#p.requests.complete(row)
  }

  #fail(row: number, error: unknown): void {
    this.#p.requests.status[row] = BLKIF_RSP.ERROR
    const now = performance.now()
    if (!this.#failing && now - this.#toldAt >= TELL_INTERVAL_MS) {
      this.#toldAt = now
      this.#p.storeFailed(error)
    }
    this.#failing = true
    this.#p.requests.complete(row)
  }
}

/** Without a turn of the event loop where there is nothing to wait for. */
const after = (result: unknown, step: (value: unknown) => unknown): unknown =>
  isPromise(result) ? Promise.resolve(result).then(step) : step(result)

/** @param result of a store, which no type checker may have seen: to look at it may throw */
function wrongWith(result: unknown, expected: number): Error | undefined {
  const moved = bytesMoved(result)
  if (moved === undefined) {
    return new TypeError(
      `the store gave ${inspected(result)}, expected nothing, { bytesRead } or { bytesWritten }`,
    )
  }
  return moved === expected
    ? undefined
    : new RangeError(`the store moved ${moved} of ${expected} bytes`)
}

/** An error, or the one that finding it ended with. */
function caught(find: () => Error | undefined): unknown {
  try {
    return find()
  } catch (error) {
    return error ?? new Error('the store threw nothing')
  }
}

const inspected = (value: unknown): string =>
  typeof value === 'object' && value !== null
    ? `an object with "${Object.keys(value).join('", "')}"`
    : String(value)
