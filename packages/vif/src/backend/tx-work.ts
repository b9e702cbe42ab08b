/**
 * Processes a card's transmit ring: what its guest sends. Slots become whole packets; packets that
 * the guest's turn and its rate allow become a batch; a batch is copied, sent to the link and
 * answered.
 *
 * A batch is sent when it is full, or when the ring is empty. Everything from the copy to the
 * answer is synchronous, so no slot is in flight between two turns. Packets wait in the table for
 * the next turn, credit or a buffer.
 */
import { RingServer, type RingServerParts, type RingWork } from '@xenkit/backend'
import { NO_OFFLOADS } from '@xenkit/frames'
import { NETIF_RSP, netif } from '@xenkit/wire'
import type { Credit } from './credit.ts'
import { TxAssembler, type TxAssemblerParts } from './tx-assembler.ts'
import { TxBatch, type TxBatchParts } from './tx-batch.ts'
import { TxPackets } from './tx-packets.ts'
import { TxSlots } from './tx-slots.ts'

/** Parts of a `TxWork`. */
export interface TxWorkParts
  extends
    Omit<RingServerParts, 'rows' | 'work'>,
    Pick<TxAssemblerParts, 'filter' | 'offered'>,
    Omit<TxBatchParts, 'slots' | 'packets' | 'wake'> {
  /** The guest's rate limit. */
  readonly credit: Credit
}

/** Offset of a response's status, in bits. */
const STATUS_SHIFT = 8 * netif.tx.response.at.status

/** Serves one transmit ring, which gets its turns from `server`. */
export class TxWork implements RingWork {
  readonly server: RingServer
  readonly #p: TxWorkParts
  readonly #slots: TxSlots
  readonly #packets: TxPackets
  readonly #assembler: TxAssembler
  readonly #batch: TxBatch
  /** The ring's memory, for responses. */
  readonly #words: Uint32Array
  readonly #slotWords: number
  readonly #bufferFreed = (): void => this.server.resume()
  readonly #creditCame = (): void => {
    // The credit outlives the ring: the guest's next ring waits behind this one.
    if (this.server.isStopped) this.#p.credit.forget(this.#creditCame)
    else this.server.resume()
  }

  /** @throws RangeError if the copier has less room than the ring has slots */
  constructor(parts: TxWorkParts) {
    const { ring, channel, guestTurn, loop, failed } = parts
    const { copier, pool, memory, staticGrefs, link, counters, filter, offered } = parts
    if (copier.capacity < ring.size) {
      throw new RangeError(`"copier" expected room for ${ring.size}, got ${copier.capacity}`)
    }
    const slots = new TxSlots(ring.size)
    const packets = new TxPackets(ring.size)
    const { bytes } = ring
    this.#p = parts
    this.#slots = slots
    this.#packets = packets
    this.#words = new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 4)
    this.#slotWords = ring.slotSize / 4
    this.#assembler = new TxAssembler({ ring, slots, packets, filter, offered })
    const wake = this.#bufferFreed
    this.#batch = new TxBatch({
      slots,
      packets,
      copier,
      pool,
      memory,
      staticGrefs,
      link,
      counters,
      wake,
    })
    // Properties are listed, not spread from `parts`: V8 needs one more load to reach those that it
    // adds to a copy.
    this.server = new RingServer({
      ring,
      channel,
      rows: slots,
      work: this,
      guestTurn,
      loop,
      failed,
    })
  }

  take(count: number): void {
    const { ring } = this.#p
    for (let i = 0; i < count; i++) {
      const row = this.#slots.take()
      this.#assembler.decode(row, ring.messageAt(i))
      this.#slots.wait(row)
    }
  }

  start(): void {
    while (!this.server.isStopped && this.#fillBatch() && this.#batch.send()) {
      this.server.answerIfWorthwhile()
    }
  }

  /**
   * Sends what `start` has left in the batch. @throws RingProtocolError if a slot broke the ring
   */
  submit(): void {
    const isSent = this.#batch.send()
    // Packets before the slot in question are sent first.
    if (!isSent || this.#packets.count > 0) return
    // If one packet has all slots of the ring, the guest has no room for the rest of it.
    if (this.#slots.waiting === this.#slots.rows) this.#assembler.ringEmpty()
    if (this.#assembler.broken) throw this.#assembler.broken
  }

  ringEmpty(): void {
    this.#assembler.ringEmpty()
  }

  deliver(): void {}

  release(): void {}

  respond(row: number): void {
    const { id, status } = this.#slots
    const word = this.#p.ring.reserveResponse() >> 2
    this.#words[word] = (id[row] ?? 0) | (((status[row] ?? 0) & 0xffff) << STATUS_SHIFT)
    // The rest of the slot is zeroed too, so that no stale bytes reach the guest (XSA-216).
    for (let i = 1; i < this.#slotWords; i++) this.#words[word + i] = 0
  }

  /**
   * Adds waiting packets to the batch, as far as the guest's turn and rate allow.
   * @returns whether the batch is to be sent: no more packets have room, or no slot can follow
   */
  #fillBatch(): boolean {
    const { guestTurn, credit, link } = this.#p
    const { offloads = NO_OFFLOADS } = link
    const packets = this.#packets
    const batch = this.#batch
    while (batch.count < packets.count) {
      const at = packets.at(batch.count)
      if (!batch.hasRoomFor(at)) return true
      const work = packets.work(at, offloads)
      if (work > guestTurn.left) {
        this.server.waitForTurn()
        return false
      }
      if (!credit.spend(packets.size[at] ?? 0, this.#creditCame)) {
        // Nothing waits for credit when the guest closes.
        if (!this.server.isFinishing) return false
        packets.refuse(at, NETIF_RSP.DROPPED)
      }
      guestTurn.spend(work)
      batch.add(at)
    }
    return batch.count > 0 && this.#slots.free === 0
  }
}
