/**
 * `RingWork` for a device whose requests are small structs, answered one by one by a function: a
 * console's control messages, say, or a card's configuration. It reads and writes them through
 * their schemas, a few microseconds each. A device with a faster path implements `RingWork` itself.
 */
import type { BackRing } from '@xenkit/ring'
import type { Fields, FieldsOf, FieldsToEncode, RingMessages } from '@xenkit/wire'
import { RingServer, type RingServerParts, type RingWork } from './ring-server.ts'
import { RowTable } from './row-table.ts'

/** Most requests of a ring in flight, and so most promises that a guest can make us hold. */
const MAX_ROWS = 64

/** Units of work of one request: to decode 5 fields and encode 4 takes 4.2 microseconds. */
const MESSAGE_WORK = 4

/** A ring's messages, and the function that answers them. */
export interface AnsweredMessages<Request extends Fields, Response extends Fields> {
  readonly messages: RingMessages<Request, Response>
  /**
   * Answers one request, which may hold anything: the guest wrote it. Takes microseconds, or
   * returns a promise; later requests are answered meanwhile. An error that it throws closes the
   * device, so answer a bad request as the protocol says.
   */
  readonly answer: (
    request: FieldsOf<Request>,
  ) => FieldsToEncode<Response> | Promise<FieldsToEncode<Response>>
}

/** Requests and, once they are done, their responses, as bytes of the ring. */
class MessageRows extends RowTable {
  readonly slots: Uint8Array

  constructor({ size, slotSize }: BackRing) {
    const rows = Math.min(size, MAX_ROWS)
    super(rows, slotSize)
    this.slots = this.column(Uint8Array, slotSize)
  }

  /** The row's message: private memory, which the guest can't change. */
  slot(row: number): Uint8Array {
    const bytes = this.slots.length / this.rows
    return this.slots.subarray(row * bytes, (row + 1) * bytes)
  }
}

/**
 * Answers each request of a ring exactly once. A response is encoded in private memory, zeros
 * around its fields, and copied into its slot whole.
 */
export class MessageWork<Request extends Fields, Response extends Fields> implements RingWork {
  readonly server: RingServer
  readonly #p: Omit<RingServerParts, 'rows' | 'work'>
  readonly #o: AnsweredMessages<Request, Response>
  readonly #rows: MessageRows

  constructor(
    parts: Omit<RingServerParts, 'rows' | 'work'>,
    o: AnsweredMessages<Request, Response>,
  ) {
    this.#p = parts
    this.#o = o
    this.#rows = new MessageRows(parts.ring)
    this.server = new RingServer({ ...parts, rows: this.#rows, work: this })
  }

  take(count: number): void {
    const { ring } = this.#p
    for (let i = 0; i < count; i++) {
      const row = this.#rows.take()
      this.#rows.slot(row).set(new Uint8Array(ring.image, ring.messageAt(i), ring.slotSize))
      this.#rows.wait(row)
    }
  }

  start(): void {
    const { guestTurn } = this.#p
    for (let row; !this.server.isStopped && (row = this.#rows.next) !== undefined;) {
      if (guestTurn.left < MESSAGE_WORK) return this.server.waitForTurn()
      guestTurn.spend(MESSAGE_WORK)
      this.#rows.start(row)
      this.#answer(row)
      this.server.answerIfWorthwhile()
    }
  }

  submit(): void {}

  deliver(): void {}

  release(): void {}

  respond(row: number): void {
    const { ring } = this.#p
    ring.bytes.set(this.#rows.slot(row), ring.reserveResponse())
  }

  #answer(row: number): void {
    let pending = false
    try {
      const answer = this.#o.answer(this.#o.messages.request.decode(this.#rows.slot(row)))
      pending = answer instanceof Promise
      if (answer instanceof Promise) void this.#answerLater(row, answer)
      else this.#encode(row, answer)
    } finally {
      if (!pending) this.#rows.complete(row)
    }
  }

  async #answerLater(row: number, answer: Promise<FieldsToEncode<Response>>): Promise<void> {
    try {
      this.#encode(row, await answer)
    } catch (error) {
      this.server.stop(error)
    }
    this.#rows.complete(row)
    this.server.completed()
  }

  #encode(row: number, answer: FieldsToEncode<Response>): void {
    const slot = this.#rows.slot(row)
    // The response may be shorter than its slot, which holds the request.
    slot.fill(0)
    this.#o.messages.response.encode(answer, slot)
  }
}
