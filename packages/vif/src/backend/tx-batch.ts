/**
 * Sends packets of a transmit ring to the card's link, many at a time. One grant-copy call brings
 * all of them into the arena, each one contiguous. They lie there until the link's `send` returns.
 */
import type { PagePool } from '@xenkit/backend'
import { Frames, type LinkEnd } from '@xenkit/frames'
import type { GrantCopier } from '@xenkit/grant'
import { NETIF_RSP } from '@xenkit/wire'
import { type VifCounters, VifCount } from './stats.ts'
import type { StaticGrefs } from './static-grefs.ts'
import { TxFrames } from './tx-frames.ts'
import type { TxPackets } from './tx-packets.ts'
import type { TxSlots } from './tx-slots.ts'

/** Most packets of a batch. Answers come after the batch, so a guest waits for all of them. */
const BATCH_PACKETS = 64

/**
 * Most bytes of a batch, and so of a buffer that it takes from the pool: four of the largest
 * packets.
 */
export const BATCH_BYTES = 256 * 1024

/**
 * Alignment of a packet, in bytes: a cache line. Packets at page boundaries would compete for the
 * same few lines of the processor's cache.
 */
const ALIGNMENT = 64

export interface TxBatchParts {
  readonly slots: TxSlots
  readonly packets: TxPackets
  /** Has room for a copy for each row of `slots`. */
  readonly copier: GrantCopier
  /** Lends buffers of up to BATCH_BYTES. */
  readonly pool: PagePool
  /** The whole arena, whose offsets the pool and the copier use. */
  readonly memory: Uint8Array
  /** Pages that the guest lets stay mapped, if it may: they need no copy by the hypervisor. */
  readonly staticGrefs: Pick<StaticGrefs, 'size' | 'lookup'> | undefined
  /** Takes the frames, whose memory it may read until it returns. */
  readonly link: Pick<LinkEnd, 'send' | 'offloads'>
  readonly counters: VifCounters
  /** Called when it is worth calling `send` again. */
  readonly wake: () => void
}

/** The oldest packets of a queue, until they are sent. */
export class TxBatch {
  /** Number of packets. */
  count = 0
  /** Bytes of their frames, each one aligned. */
  #bytes = 0
  readonly #p: TxBatchParts
  readonly #frames = new Frames(BATCH_PACKETS)
  readonly #describe = new TxFrames()
  /** For each packet: its first byte in the arena, and the number of copies up to its last one. */
  readonly #start = new Uint32Array(BATCH_PACKETS)
  readonly #copies = new Uint16Array(BATCH_PACKETS)
  /** Rows of all the packets' slots, in ring order. */
  readonly #rows: Uint16Array

  constructor(parts: TxBatchParts) {
    this.#p = parts
    this.#rows = new Uint16Array(parts.slots.rows)
  }

  /** Whether the queue's next packet has room. @param at its index in the columns */
  hasRoomFor(at: number): boolean {
    return this.count < BATCH_PACKETS && this.#bytes + this.#bytesOf(at) <= BATCH_BYTES
  }

  /** Adds the queue's next packet. @param at its index in the columns */
  add(at: number): void {
    this.count++
    this.#bytes += this.#bytesOf(at)
  }

  /**
   * Sends the batch. After that all its slots are done, and the batch is empty.
   * @returns false if there is no buffer for it now: it stays as it is
   */
  send(): boolean {
    const { pool, copier, wake } = this.#p
    if (this.count === 0) return true
    const buffer = this.#bytes === 0 ? undefined : pool.take(this.#bytes, wake)
    if (this.#bytes > 0 && !buffer) return false
    try {
      this.#startSlots(buffer ? buffer.extent.byteOffset(buffer.first) : 0)
      if (buffer) this.#sendFrames(copier.copyIn())
    } finally {
      copier.reset()
      if (buffer) pool.give(buffer)
      this.#completeSlots()
    }
    return true
  }

  #bytesOf(at: number): number {
    const { frame, size } = this.#p.packets
    return frame[at] === 0 ? 0 : Math.ceil((size[at] ?? 0) / ALIGNMENT) * ALIGNMENT
  }

  /** Starts all rows, and adds the copies of their parts. @param start where frames are put */
  #startSlots(start: number): void {
    const { slots, packets, copier } = this.#p
    let row = 0
    for (let i = 0; i < this.count; i++) {
      const packet = packets.at(i)
      this.#start[i] = start
      let to = start
      for (let left = packets.slots[packet] ?? 0; left > 0; left--) {
        const next = slots.next ?? 0
        slots.start(next)
        this.#rows[row++] = next
        const size = slots.size[next] ?? 0
        // A part without bytes needs no copy: its grant isn't looked at (XSA-448).
        if (packets.frame[packet] === 0 || slots.extra[next] === 1 || size === 0) continue
        this.#copyPart(next, size, to)
        to += size
      }
      this.#copies[i] = copier.count
      start += this.#bytesOf(packet)
    }
  }

  /** Copies a part from a page that is mapped, or adds its copy by the hypervisor. */
  #copyPart(row: number, size: number, to: number): void {
    const { slots, copier, memory, staticGrefs } = this.#p
    const gref = slots.gref[row] ?? 0
    const offset = slots.offset[row] ?? 0
    const page = staticGrefs && staticGrefs.size > 0 ? staticGrefs.lookup(gref, false) : undefined
    if (page === undefined) copier.add(gref, offset, size, to)
    else memory.copyWithin(to, page + offset, page + offset + size)
  }

  /** Sends all frames whose copies succeeded. @param failed number of copies that failed */
  #sendFrames(failed: number): void {
    const { packets, memory, link, counters } = this.#p
    const frames = this.#frames
    frames.reset(memory)
    let bytes = 0
    for (let i = 0; i < this.count; i++) {
      const packet = packets.at(i)
      if (packets.frame[packet] === 0) continue
      const isWhole = failed === 0 || this.#isCopied(i)
      if (isWhole && this.#describe.add(frames, packets, packet, this.#start[i] ?? 0)) {
        bytes += packets.size[packet] ?? 0
      } else packets.refuse(packet, NETIF_RSP.ERROR)
    }
    if (frames.count === 0) return
    counters.add(VifCount.FRAMES_SENT, frames.count)
    counters.add(VifCount.BYTES_SENT, bytes)
    link.send(frames)
  }

  #isCopied(i: number): boolean {
    const { status } = this.#p.copier
    const end = this.#copies[i] ?? 0
    for (let copy = i === 0 ? 0 : (this.#copies[i - 1] ?? 0); copy < end; copy++) {
      if (status[copy] !== 0) return false
    }
    return true
  }

  #completeSlots(): void {
    const { slots, packets, counters } = this.#p
    let row = 0
    for (let i = 0; i < this.count; i++) {
      const packet = packets.at(i)
      const status = packets.status[packet] ?? 0
      if (status === NETIF_RSP.ERROR) counters.add(VifCount.SEND_ERRORS)
      if (status === NETIF_RSP.DROPPED) counters.add(VifCount.SEND_DROPS)
      for (let left = packets.slots[packet] ?? 0; left > 0; left--) {
        const done = this.#rows[row++] ?? 0
        slots.status[done] = slots.extra[done] === 1 ? NETIF_RSP.NULL : status
        slots.complete(done)
      }
    }
    packets.shift(this.count)
    this.count = this.#bytes = 0
  }
}
