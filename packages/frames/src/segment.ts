/**
 * Segmentation of TCP in software: splits a GSO frame as a network card does (TSO), for an end that
 * takes no such frames.
 */
import { type ChecksumUnit, addSums, readWord, writeWord } from './checksum.ts'
import { Checksum, type Frames, Gso } from './frames.ts'
import { EtherType, Headers, IpProtocol } from './headers.ts'

/**
 * Smallest size that frames are split by. Linux's TCP goes no lower: it is TCP_MIN_GSO_SIZE. A
 * smaller one would make a guest's frame of 64 KiB cost tens of thousands of segments.
 */
export const MIN_GSO_SIZE = 8

const IPV6_HEADER = 40
const FIN = 0x01
const PSH = 0x08
const CWR = 0x80

/** Splits one frame at a time. Call `begin`, then `write` until `done`. */
export class Segmenter {
  readonly #unit: ChecksumUnit
  readonly #headers = new Headers()
  #memory: Uint8Array = new Uint8Array(0)
  /** First byte of the frame in `#memory`. */
  #start = 0
  #gsoSize = 0
  /** Offset in the frame of the payload that comes next. */
  #next = 0
  /** Number of segments written. */
  #written = 0

  constructor(unit: ChecksumUnit) {
    this.#unit = unit
  }

  /**
   * Starts with frame `index`, whose memory stays unchanged until all segments are written.
   * @returns false if it isn't the kind of frame that its `gso` says, or `gsoSize` is below 8
   */
  begin(frames: Frames, index: number): boolean {
    const headers = this.#headers
    this.#memory = frames.memory
    this.#start = frames.start[index] ?? 0
    this.#gsoSize = frames.gsoSize[index] ?? 0
    this.#written = 0
    const length = frames.length[index] ?? 0
    if (!headers.parse(frames.memory, this.#start, length, true)) return false
    this.#next = headers.length
    const type = headers.ethertype === EtherType.IPV4 ? Gso.TCPV4 : Gso.TCPV6
    return (
      frames.gso[index] === type &&
      headers.protocol === IpProtocol.TCP &&
      headers.l4 !== 0 &&
      !headers.fragment &&
      this.#gsoSize >= MIN_GSO_SIZE
    )
  }

  /** Most bytes of a segment. */
  get segmentBytes(): number {
    const { length, end } = this.#headers
    return Math.min(length + this.#gsoSize, end)
  }

  /** True when all segments are written. */
  get done(): boolean {
    return this.#written > 0 && this.#next === this.#headers.end
  }

  /**
   * Adds the next segment to `to`, and writes its bytes to its memory.
   *
   * @param free first free byte of the memory: `segmentBytes` and 3 more have to be free
   * @returns the first free byte after it
   */
  write(to: Frames, free: number): number {
    const headers = this.#headers
    const { length, l4 } = headers
    const from = this.#start + this.#next
    const payload = Math.min(this.#gsoSize, headers.end - this.#next)
    const { memory } = to
    const start = free + aheadBy(this.#memory, from, memory, free + length)
    for (let i = 0; i < length; i++) memory[start + i] = this.#memory[this.#start + i] ?? 0
    const sum = this.#unit.copy(this.#memory, from, from + payload, memory, start + length)
    this.#writeIp(memory, start, length + payload)
    this.#writeTcp(memory, start, payload)
    const bytes = length - l4 + payload
    const pseudo = this.#unit.pseudoHeader(this.#memory, this.#start, headers, bytes)
    const header = this.#unit.sum(memory, start + l4, start + length)
    writeWord(memory, start + headers.checksum, ~addSums(addSums(header, sum), pseudo) & 0xffff)
    this.#next += payload
    this.#written++
    to.add({ start, length: length + payload, checksum: Checksum.COMPLETE })
    return start + length + payload
  }

  #writeIp(memory: Uint8Array, start: number, length: number): void {
    const { ethertype, l3 } = this.#headers
    const ip = start + l3
    if (ethertype !== EtherType.IPV4) {
      writeWord(memory, ip + 4, length - l3 - IPV6_HEADER)
      return
    }
    writeWord(memory, ip + 2, length - l3)
    writeWord(memory, ip + 4, readWord(memory, ip + 4) + this.#written)
    writeWord(memory, ip + 10, 0)
    const header = ((memory[ip] ?? 0) & 15) * 4
    writeWord(memory, ip + 10, ~this.#unit.sum(memory, ip, ip + header) & 0xffff)
  }

  #writeTcp(memory: Uint8Array, start: number, payload: number): void {
    const { l4, length, end, checksum } = this.#headers
    const tcp = start + l4
    const offset = this.#next - length
    const low = readWord(memory, tcp + 6) + (offset & 0xffff)
    writeWord(memory, tcp + 6, low)
    writeWord(memory, tcp + 4, readWord(memory, tcp + 4) + (offset >>> 16) + (low >>> 16))
    let flags = memory[tcp + 13] ?? 0
    if (offset > 0) flags &= ~CWR
    if (this.#next + payload < end) flags &= ~(FIN | PSH)
    memory[tcp + 13] = flags
    writeWord(memory, start + checksum, 0)
  }
}

/** Bytes to leave free before `place`, so that a copy goes by words: see `ChecksumUnit.copy`. */
export const aheadBy = (from: Uint8Array, start: number, to: Uint8Array, place: number): number =>
  (from.byteOffset + start - to.byteOffset - place) & 3
