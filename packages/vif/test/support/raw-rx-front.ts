/**
 * A guest's end of a receive ring, written by hand from netif.h and ring.h: it shares no code with
 * the project's rings and frontends. It matches responses by slot, as Linux's netfront does.
 */
import type { GrantShare } from '@xenkit/hypervisor'

const PAGE = 4096
const SLOTS = 256
/** Content of a buffer before it is posted, to show what the backend writes. */
export const CANARY = 0xee

/** A packet, as the guest finds it on the ring. */
export interface ReceivedPacket {
  /** Its data, without headroom. Undefined if a part has an error. */
  readonly bytes: Uint8Array | undefined
  /** Status of the first part that has an error, else 0. */
  readonly error: number
  /** Flags of the first response without more_data and extra_info. */
  readonly flags: number
  /** Statuses of its parts. */
  readonly parts: readonly number[]
  /** Extra infos: 8 bytes each, without their flags. */
  readonly extras: readonly (readonly number[])[]
}

/** A posted buffer. */
interface Posted {
  readonly page: number
  readonly id: number
}

export class RawRxFront {
  readonly ring: GrantShare
  readonly data: GrantShare
  readonly words: Uint32Array
  /** Number of posted buffers for which there is no response. */
  posted = 0
  /** Grant of the next posted buffers, in place of the right one. */
  wrongGref: number | undefined
  #reqProd: number
  #published: number
  #rspCons: number
  #nextId = 0x1234
  readonly #slots: (Posted | undefined)[] = Array.from({ length: SLOTS })
  readonly #freePages: number[] = Array.from({ length: SLOTS }, (_, page) => page)

  /**
   * @param pages one page for the ring
   * @param data 256 pages
   * @param index where all indices start
   */
  constructor(pages: GrantShare, data: GrantShare, index: number) {
    this.ring = pages
    this.data = data
    this.words = new Uint32Array(pages.bytes.buffer, pages.bytes.byteOffset, PAGE / 4)
    this.#reqProd = this.#published = this.#rspCons = index >>> 0
    this.words[0] = this.words[2] = index >>> 0
    this.words[1] = this.words[3] = (index + 1) >>> 0
  }

  /** Posts buffers. @returns whether the backend wants an event */
  post(count: number): boolean {
    for (let i = 0; i < count; i++) {
      const page = this.#freePages.shift()
      if (page === undefined) throw new Error('all buffers are posted')
      this.data.bytes.fill(CANARY, page * PAGE, (page + 1) * PAGE)
      const id = this.#nextId
      this.#nextId = (this.#nextId * 31 + 7) & 0xffff
      const slot = this.#reqProd % SLOTS
      this.#slots[slot] = { page, id }
      const pad = 0xbeef
      this.words[16 + 2 * slot] = ((pad << 16) | id) >>> 0
      this.words[17 + 2 * slot] = this.wrongGref ?? this.data.grefs[page] ?? 0
      this.#reqProd = (this.#reqProd + 1) >>> 0
    }
    this.posted += count
    const old = this.#published
    this.#published = this.#reqProd
    Atomics.store(this.words, 0, this.#reqProd)
    const event = Atomics.load(this.words, 1)
    return (this.#reqProd - event) >>> 0 < (this.#reqProd - old) >>> 0
  }

  /** Takes all responses, and asks for an event with the next one. */
  reap(): ReceivedPacket[] {
    const packets: ReceivedPacket[] = []
    const end = Atomics.load(this.words, 2)
    while (this.#rspCons !== end) packets.push(this.#packet(end))
    Atomics.store(this.words, 3, (this.#rspCons + 1) >>> 0)
    return packets
  }

  close(): void {
    this.data.close()
    this.ring.close()
  }

  #packet(end: number): ReceivedPacket {
    const extras: number[][] = []
    const parts: number[] = []
    const data: { readonly page: number; readonly size: number }[] = []
    let flags = 0
    let error = 0
    for (let more = true; more;) {
      const { at, page, id } = this.#take(end)
      const [gotId = 0, offset = 0, gotFlags = 0] = new Uint16Array(
        this.ring.bytes.buffer,
        this.ring.bytes.byteOffset + at,
        4,
      )
      const status = (this.words[at / 4 + 1] ?? 0) >> 16
      if (gotId !== id) throw new Error(`a response has id ${gotId}, its request had ${id}`)
      if (offset !== 0) throw new Error(`a response has offset ${offset}`)
      if (parts.length === 0) {
        flags = gotFlags & ~12
        for (let extra = (gotFlags & 8) !== 0; extra;) {
          const info = this.#take(end)
          const bytes = [...this.ring.bytes.subarray(info.at, info.at + 8)]
          extra = bytes[1] === 1
          extras.push(bytes.toSpliced(1, 1))
          this.#expectCanary(info.page, 0, PAGE)
        }
      } else if ((gotFlags & ~4) !== 0) throw new Error(`a later part has flags ${gotFlags}`)
      parts.push(status)
      if (status < 0) error ||= status
      data.push({ page, size: status })
      more = (gotFlags & 4) !== 0
    }
    const xdp = extras.find(([type]) => type === 5)
    const headroom = (xdp?.[1] ?? 0) + 256 * (xdp?.[2] ?? 0)
    if (error < 0) return { bytes: undefined, error, flags, parts, extras }
    const pieces = data.map(({ page, size }) => {
      this.#expectCanary(page, 0, headroom)
      this.#expectCanary(page, size, PAGE)
      return this.data.bytes.slice(page * PAGE + headroom, page * PAGE + size)
    })
    return { bytes: Uint8Array.from(Buffer.concat(pieces)), error, flags, parts, extras }
  }

  #take(end: number): Posted & { readonly at: number } {
    if (this.#rspCons === end) throw new Error('a packet ends before its last slot')
    const slot = this.#rspCons % SLOTS
    const posted = this.#slots[slot]
    if (!posted) throw new Error(`slot ${slot} has a response, but no buffer was posted in it`)
    this.#slots[slot] = undefined
    this.#freePages.push(posted.page)
    this.#rspCons = (this.#rspCons + 1) >>> 0
    this.posted--
    return { ...posted, at: 64 + 8 * slot }
  }

  #expectCanary(page: number, from: number, to: number): void {
    const bytes = this.data.bytes.subarray(page * PAGE + from, page * PAGE + to)
    if (!bytes.every((byte) => byte === CANARY)) {
      throw new Error(`the backend wrote outside of a part, before ${from} or after`)
    }
  }
}
