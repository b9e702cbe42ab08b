/**
 * The writes and discards that were answered but not flushed. A server that is killed loses them,
 * but a flush on the restarted server would succeed. So the log copies them, and replays them
 * there.
 *
 * The log is bounded. At `FLUSH_BYTES` it flushes without a request of the guest. Writes that would
 * make it longer than `MOST_BYTES` wait for that flush.
 */
import { NBD_CMD } from './protocol.ts'
import { gather } from '../buffers.ts'
import { type Stretch, StretchTree } from '../stretch-tree.ts'
import type { NbdConnection, Request } from './connection.ts'
import { asError } from './nbd-error.ts'

export interface WriteLogOptions {
  readonly send: (request: Request) => void
  readonly refuse: (request: Request, error: Error) => void
  readonly flush: () => Promise<void>
}

type Change = Pick<Request, 'type' | 'offset' | 'length' | 'data'>

const FLUSH_BYTES = 16 * 1024 * 1024
const MOST_BYTES = 2 * FLUSH_BYTES
/** Bytes that each change counts in addition to its data. */
const CHANGE_BYTES = 512
/** Unit of requests, in bytes. */
const SECTOR = 512
/** Most changes in flight during a replay. */
const MOST_AT_ONCE = 64

export class WriteLog {
  readonly #o: WriteLogOptions
  /**
   * Changes in the order of their answers. Changes that are in flight together don't overlap: the
   * guest sees to that.
   */
  readonly #changes: Change[] = []
  #bytes = 0
  #bytesInFlight = 0
  /** Requests that wait for room, in order. */
  #waiting: Request[] = []
  /** Number of changes flushed since the start. */
  #flushed = 0
  #flushing = false
  #refusal: Error | undefined

  constructor(o: WriteLogOptions) {
    this.#o = o
  }

  /** Number of changes answered since the start. */
  get answered(): number {
    return this.#flushed + this.#changes.length
  }

  /** Sends a write or discard once there is room for it. */
  admit(request: Request): void {
    this.#waiting.push(request)
    this.#proceed()
  }

  /** Call this when the server has answered or refused a request. */
  settled(request: Request, error: Error | undefined): void {
    this.#bytesInFlight -= bytesOf(request)
    if (!error) this.#keep(request)
    this.#proceed()
  }

  /** Call this when a flush has succeeded: it covers the first `answered` changes. */
  flushed(answered: number): void {
    for (const change of this.#changes.splice(0, answered - this.#flushed)) {
      this.#bytes -= bytesOf(change)
      this.#flushed++
    }
    this.#proceed()
  }

  /**
   * Returns, once, the error of a flush that the log made itself. The guest's next flush has to
   * fail with this error.
   */
  takeRefusal(): Error | undefined {
    const refusal = this.#refusal
    this.#refusal = undefined
    return refusal
  }

  /**
   * Replays all changes, while nothing else is in flight on any connection.
   * @returns number of changes
   * @throws Error if the connection is lost or the server refuses; don't use the connection then
   */
  async replay(connection: NbdConnection): Promise<number> {
    connection.onSettled = (request, refusal) =>
      refusal ? request.reject(refusal) : request.resolve()
    connection.onLost = (reason, requests) => requests.forEach((request) => request.reject(reason))
    const latest = this.#latest()
    for (let done = 0; done < latest.length; done += MOST_AT_ONCE) {
      if (connection.lost) throw connection.lost
      const batch = latest.slice(done, done + MOST_AT_ONCE)
      await Promise.all(
        batch.map(
          (change) =>
            new Promise<void>((resolve, reject) =>
              connection.send({ ...change, resolve, reject, answered: 0, giveUpAt: undefined }),
            ),
        ),
      )
    }
    if (connection.lost) throw connection.lost
    this.#refusal = undefined
    return this.#changes.length
  }

  /**
   * Returns the final state of all changed places. Replaying each change in order would revert data
   * for a while, on a server that wasn't killed. If this connection then broke half way, reads on
   * other connections would see old data.
   */
  #latest(): readonly Change[] {
    const end =
      this.#changes.reduce((most, { offset, length }) => Math.max(most, offset + length), 0) /
      SECTOR
    const places = new StretchTree<Change>(end)
    for (const change of this.#changes) {
      places.fill(change.offset / SECTOR, (change.offset + change.length) / SECTOR, change)
    }
    const latest: Change[] = []
    for (let at = 0; at < end;) {
      const { value: change, end: next } = stretchOf(places, at, end)
      if (change) latest.push(partOf(change, at * SECTOR, next * SECTOR))
      at = next
    }
    return latest
  }

  #keep({ type, offset, length, data }: Request): void {
    const copy = Buffer.allocUnsafeSlow(type === NBD_CMD.WRITE ? length : 0)
    gather(data, copy)
    this.#changes.push({ type, offset, length, data: [copy] })
    this.#bytes += bytesOf({ type, length })
  }

  #proceed(): void {
    while (this.#bytes + this.#bytesInFlight < MOST_BYTES) {
      const request = this.#waiting.shift()
      if (!request) break
      this.#bytesInFlight += bytesOf(request)
      this.#o.send(request)
    }
    if (this.#bytes >= FLUSH_BYTES && !this.#flushing) void this.#flush()
  }

  /** Flushes all logged changes. If the flush fails, the next write tries again. */
  async #flush(): Promise<void> {
    this.#flushing = true
    try {
      await this.#o.flush()
      this.#flushing = false
      this.#proceed()
    } catch (error) {
      this.#flushing = false
      this.#refusal = asError(error)
      for (const request of this.#waiting.splice(0)) this.#o.refuse(request, this.#refusal)
    }
  }
}

const bytesOf = ({ type, length }: Pick<Request, 'type' | 'length'>): number =>
  CHANGE_BYTES + (type === NBD_CMD.WRITE ? length : 0)

/** Returns the longest stretch with the value at `at`: the tree may have it in several pieces. */
function stretchOf(places: StretchTree<Change>, at: number, most: number): Stretch<Change> {
  const { value, end: first } = places.at(at)
  let end = first
  while (end < most && places.at(end).value === value) ({ end } = places.at(end))
  return { value, end: Math.min(end, most) }
}

/** The part of a change from byte `start` up to `end`, exclusive. */
function partOf({ type, offset, data }: Change, start: number, end: number): Change {
  const parts =
    type === NBD_CMD.WRITE
      ? data.map((bytes) => bytes.subarray(start - offset, end - offset))
      : data
  return { type, offset: start, length: end - start, data: parts }
}
