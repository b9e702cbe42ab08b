/**
 * The writes and discards that were answered and not flushed. A server that is killed forgets them, and
 * a flush on the next one would succeed all the same: so they are kept here, copied, and done again there.
 *
 * The log is bounded. When it has `FLUSH_BYTES` it is flushed without the guest's asking, and writes
 * that would let it grow beyond `MOST_BYTES` wait for that.
 */
import { NBD_CMD } from '@xenkit/wire'
import { gather } from '../buffers.ts'
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
/** Most that are done again at once. */
const MOST_AT_ONCE = 64

export class WriteLog {
  readonly #o: WriteLogOptions
  /** In the order of their answers. Those in flight together are of different places: the guest sees to that. */
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

  /** Why a flush failed that the guest doesn't know of: its next one has to fail in its place. Told once. */
  takeRefusal(): Error | undefined {
    const refusal = this.#refusal
    this.#refusal = undefined
    return refusal
  }

  /**
   * Does all of it again, in order, while nothing else is in flight anywhere.
   * @returns how many changes that were
   * @throws Error if the connection is lost or the server refuses: it must not be used then
   */
  async replay(connection: NbdConnection): Promise<number> {
    connection.onSettled = (request, refusal) => (refusal ? request.reject(refusal) : request.resolve())
    connection.onLost = (reason, requests) => requests.forEach((request) => request.reject(reason))
    for (let done = 0; ; ) {
      if (connection.lost) throw connection.lost
      const batch = this.#batch(done)
      if (batch.length === 0) break
      await Promise.all(batch.map((change) => new Promise<void>((resolve, reject) => connection.send({ ...change, resolve, reject, answered: 0, giveUpAt: undefined }))))
      done += batch.length
    }
    this.#refusal = undefined
    return this.#changes.length
  }

  /** Changes from this one on that don't overlap: a server does what is in flight in any order. */
  #batch(start: number): readonly Change[] {
    const most = this.#changes.slice(start, start + MOST_AT_ONCE)
    const end = most.findIndex((change, i) => most.slice(0, i).some((before) => overlap(before, change)))
    return end < 0 ? most : most.slice(0, end)
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

const bytesOf = ({ type, length }: Pick<Request, 'type' | 'length'>): number => CHANGE_BYTES + (type === NBD_CMD.WRITE ? length : 0)

const overlap = (a: Change, b: Change): boolean => a.offset < b.offset + b.length && b.offset < a.offset + a.length
