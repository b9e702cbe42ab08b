/**
 * The writes and discards that were answered and not flushed. A server that is killed forgets them,
 * and a flush on the next one would succeed all the same: so they are kept here, copied, and done
 * again there.
 *
 * The log is bounded. When it has `FLUSH_BYTES` it is flushed without the guest's asking, and
 * writes that would let it grow beyond `MOST_BYTES` wait for that.
 */
import { NBD_CMD } from './protocol.ts'
import { gather } from '../buffers.ts'
import { type Stretch, StretchTree } from '../stretch-tree.ts'
import type { NbdConnection, Request } from './connection.ts'

export interface WriteLogOptions {
  readonly send: (request: Request) => void
  readonly refuse: (request: Request, error: Error) => void
  readonly flush: () => Promise<void>
}

type Change = Pick<Request, 'type' | 'offset' | 'length' | 'data'>

const FLUSH_BYTES = 16 * 1024 * 1024
const MOST_BYTES = 2 * FLUSH_BYTES
/** What a change counts beside its data. */
const CHANGE_BYTES = 512
/** Requests are of whole sectors. */
const SECTOR = 512
/** Most that are done again at once. */
const MOST_AT_ONCE = 64

export class WriteLog {
  readonly #o: WriteLogOptions
  /**
   * In the order of their answers. Those in flight together are of different places: the guest sees
   * to that.
   */
  readonly #changes: Change[] = []
  #bytes = 0
  #bytesInFlight = 0
  /** In order, for want of room. */
  #waiting: Request[] = []
  /** How many changes were flushed. */
  #flushed = 0
  #flushing = false
  #refusal: Error | undefined

  constructor(o: WriteLogOptions) {
    this.#o = o
  }

  /** How many changes were answered, ever. */
  get answered(): number {
    return this.#flushed + this.#changes.length
  }

  /** Sends a write or discard, once there is room for it. */
  admit(request: Request): void {
    this.#waiting.push(request)
    this.#proceed()
  }

  /** The server is done with what was sent. */
  settled(request: Request, error: Error | undefined): void {
    this.#bytesInFlight -= bytesOf(request)
    if (!error) this.#keep(request)
    this.#proceed()
  }

  /** A flush succeeded that was made when so many changes had been answered. */
  flushed(answered: number): void {
    for (const change of this.#changes.splice(0, answered - this.#flushed)) {
      this.#bytes -= bytesOf(change)
      this.#flushed++
    }
    this.#proceed()
  }

  /**
   * Why a flush failed that the guest doesn't know of: its next one has to fail in its place. Told
   * once.
   */
  takeRefusal(): Error | undefined {
    const refusal = this.#refusal
    this.#refusal = undefined
    return refusal
  }

  /**
   * Does again what the server may have forgotten, while nothing else is in flight anywhere.
   * @returns how many changes that were
   * @throws Error if the connection is lost or the server refuses: it must not be used then
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
   * What the changes come to: each place as the last of them left it. A server that was not killed
   * has that already. Older data would take it back to an earlier state if this connection is lost
   * half way, and reads on the others would see that.
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

  /** Not again at once if it fails, but when there is more to write. */
  async #flush(): Promise<void> {
    this.#flushing = true
    try {
      await this.#o.flush()
      this.#flushing = false
      this.#proceed()
    } catch (error) {
      this.#flushing = false
      this.#refusal = error instanceof Error ? error : new Error(String(error))
      for (const request of this.#waiting.splice(0)) this.#o.refuse(request, this.#refusal)
    }
  }
}

const bytesOf = ({ type, length }: Pick<Request, 'type' | 'length'>): number =>
  CHANGE_BYTES + (type === NBD_CMD.WRITE ? length : 0)

/** The whole stretch of one value, of which the tree may know several pieces. */
function stretchOf(places: StretchTree<Change>, at: number, most: number): Stretch<Change> {
  const { value, end: first } = places.at(at)
  let end = first
  while (end < most && places.at(end).value === value) ({ end } = places.at(end))
  return { value, end: Math.min(end, most) }
}

/** A change on its bytes from `start` to before `end` alone. */
function partOf({ type, offset, data }: Change, start: number, end: number): Change {
  const parts =
    type === NBD_CMD.WRITE
      ? data.map((bytes) => bytes.subarray(start - offset, end - offset))
      : data
  return { type, offset: start, length: end - start, data: parts }
}
