/**
 * Runs requests on the store in as few calls as possible. Each request completes exactly once,
 * whatever the store does. If the store takes batches, reads and writes go through them, and no
 * object is allocated for a request.
 */
import { type BlockStore, bytesMoved, isPromise, type StoreBatch } from '@xenkit/block-store'
import type { GuestTurn } from '@xenkit/hypervisor'
import { BLKIF_OP, BLKIF_RSP } from '@xenkit/wire'
import { MAX_SEGMENTS } from '../nodes.ts'
import type { DataPath } from './data-path.ts'
import { discardInTurns, wholeGranules } from './discard-in-turns.ts'
import type { Requests } from './requests.ts'

/** Least time between two reports of a failing store, in milliseconds. */
const TELL_INTERVAL_MS = 1_000

/** Most buffers of a call: the kernel's limit for a vectored call (IOV_MAX). */
const MAX_VIEWS = 1_024

/** Parts of a `StoreCalls`. */
export interface StoreCallsParts {
  readonly store: BlockStore
  /** The store's batch, if it has one: a job for each row, of up to MAX_SEGMENTS pieces. */
  readonly batch: StoreBatch | undefined
  readonly requests: Requests
  readonly data: DataPath
  /** The turn that long discards are charged to. */
  readonly guestTurn: GuestTurn
  /**
   * Whether the ring has stopped. Then no store call is made, not even the second one of a request
   * that takes two.
   */
  readonly stopped: () => boolean
  /**
   * Called when requests completed asynchronously, once for several. Never called within `start`.
   */
  readonly completed: () => void
  /**
   * Called when a store call threw, rejected or moved too few bytes; its requests get an error.
   * Called once until a call succeeds, and at most once a second: the guest controls how often
   * calls fail, and must not fill a log (XSA-157).
   */
  readonly storeFailed: (error: unknown) => void
}

/** Runs the requests of one ring on its store. */
export class StoreCalls {
  readonly #p: StoreCallsParts
  /** Whether the batch deferred jobs until `proceed`. */
  #deferred = false
  #failing = false
  /** Time of the last report, on `performance.now`'s clock. */
  #toldAt = -TELL_INTERVAL_MS

  constructor(parts: StoreCallsParts) {
    this.#p = parts
  }

  /**
   * Starts `rows[first]` to `rows[end - 1]` in order. A row whose status isn't OKAY completes at
   * once.
   */
  start(rows: Uint16Array, first: number, end: number): void {
    const { batch } = this.#p
    if (batch) this.#startBatch(batch, rows, first, end)
    else this.#startRuns(rows, first, end)
  }

  /**
   * Submits the jobs that the batch deferred.
   * @throws what the batch throws
   */
  proceed(): void {
    if (!this.#deferred) return
    this.#deferred = false
    this.#p.batch?.proceed()
  }

  #startBatch(batch: StoreBatch, rows: Uint16Array, first: number, end: number): void {
    const { requests } = this.#p
    const { operation, status, position, segmentCount, offset, length } = requests
    const { jobs } = batch
    const { list } = jobs
    let listed = 0
    for (let i = first; i < end; i++) {
      const row = rows[i] ?? 0
      const kind = operation[row] ?? 0
      if (status[row] !== BLKIF_RSP.OKAY) {
        requests.complete(row)
        continue
      }
      if (kind !== BLKIF_OP.READ && kind !== BLKIF_OP.WRITE) {
        this.#run([row])
        continue
      }
      // A row is the job of the same index. READ and WRITE are 0 and 1 for both.
      const count = segmentCount[row] ?? 0
      jobs.operation[row] = kind
      jobs.position[row] = position[row] ?? 0
      jobs.count[row] = count
      for (let at = row * MAX_SEGMENTS, behind = at + count; at < behind; at++) {
        jobs.offset[at] = offset[at] ?? 0
        jobs.bytes[at] = length[at] ?? 0
      }
      list[listed++] = row
    }
    if (listed === 0) return
    let done
    try {
      done = batch.start(listed)
    } catch (error) {
      // No job was started.
      for (let i = 0; i < listed; i++) this.#fail(list[i] ?? 0, error)
      return
    }
    if (done < listed) this.#deferred = true
    for (let i = 0; i < done; i++) this.batchDone(list[i] ?? 0)
  }

  /** Completes a row whose job has ended, with the job's result. */
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

  /** Merges consecutive reads, or writes, of adjacent sectors into one store call each. */
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
        // `Promise.resolve` calls a foreign thenable's callbacks at most once.
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
        // A flush with data makes earlier writes durable, then writes (Linux: REQ_PREFLUSH).
        const flushed = store.flush?.()
        return views.length === 0 ? flushed : after(flushed, () => this.#write(sector, views))
      }
    }
  }

  /** Writes after another store call, during which the ring may have stopped. */
  #write(sector: number, views: Uint8Array[]): unknown {
    if (this.#p.stopped()) throw new Error("the ring stopped before the request's data was written")
    return this.#p.store.write?.(sector, views)
  }

  /**
   * Makes earlier writes durable, writes, then makes that durable before the response: old
   * blkfronts use a barrier for FUA.
   */
  #barrier(sector: number, views: Uint8Array[]): unknown {
    const { store } = this.#p
    const flushed = store.flush?.()
    if (views.length === 0) return flushed
    const written = after(flushed, () => this.#write(sector, views))
    return after(written, (result) => after(store.flush?.(), () => result))
  }

  /**
   * Discards a row's range. A discard is a hint, so its range is cut to whole granules. A secure
   * one has to leave no copy, so its whole range is passed to the store.
   */
  async #discard(row: number): Promise<void> {
    const { store, requests, guestTurn, stopped } = this.#p
    const range = { sector: requests.sector(row), end: requests.end(row) }
    const secure = requests.secure[row] === 1
    const given = secure ? range : wholeGranules(store, range)
    const isWhole = await discardInTurns({ ...given, secure, store, guestTurn, stopped })
    // The ring stopped before the end: not reported as a failure of the store.
    if (!isWhole) requests.status[row] = BLKIF_RSP.ERROR
  }

  /** Completes rows after a store call. @param result what the store returned */
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
      // Retry one by one, so that a bad sector fails only its own request.
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

/** Runs a step after a result: synchronously unless the result is a promise. */
const after = (result: unknown, step: (value: unknown) => unknown): unknown =>
  isPromise(result) ? Promise.resolve(result).then(step) : step(result)

/** Checks a store's result, which no type checker may have seen: reading its members may throw. */
function wrongWith(result: unknown, expected: number): Error | undefined {
  const moved = bytesMoved(result)
  if (moved === undefined) {
    return new TypeError(
      `the store returned ${inspected(result)}, expected nothing, { bytesRead } or { bytesWritten }`,
    )
  }
  return moved === expected
    ? undefined
    : new RangeError(`the store moved ${moved} of ${expected} bytes`)
}

/** The error that `find` returns or throws. */
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
