/**
 * The Internet checksum of RFC 1071 over ranges of memory.
 *
 * Sums are of the 16-bit words of the network's byte order, folded to 16 bits. They are computed in
 * this machine's byte order, two words at a time, and swapped at the end. Each machine that Xen
 * runs on is little-endian.
 */
import type { Frames } from './frames.ts'
import { EtherType, Headers } from './headers.ts'

const IPV4_SOURCE = 12
const IPV6_SOURCE = 8

/** Ranges below this size are summed byte by byte: they aren't worth a view of their memory. */
const SHORT = 64

/** Adds two folded sums. */
export const addSums = (a: number, b: number): number => {
  const sum = a + b
  return (sum & 0xffff) + (sum >>> 16)
}

/** Reads a big-endian word. */
export const readWord = (memory: Uint8Array, at: number): number =>
  ((memory[at] ?? 0) << 8) | (memory[at + 1] ?? 0)

/** Writes a big-endian word. */
export const writeWord = (memory: Uint8Array, at: number, value: number): void => {
  memory[at] = value >>> 8
  memory[at + 1] = value
}

/** A view of a memory's buffer by 32-bit words, kept for as long as the buffer is the same. */
class WordView {
  #words: Int32Array = new Int32Array(0)

  of(memory: Uint8Array): Int32Array {
    if (this.#words.buffer !== memory.buffer) {
      this.#words = new Int32Array(memory.buffer, 0, memory.buffer.byteLength >>> 2)
    }
    return this.#words
  }
}

const fold = (sum: number): number => {
  const once = (sum & 0xffff) + (sum >>> 16)
  return (once & 0xffff) + (once >>> 16)
}

/** A byte's part in the sum of this machine's words. @param address in the byte's buffer */
const inPlace = (byte: number, address: number): number => byte << ((address & 1) << 3)

const swap = (word: number): number => ((word & 0xff) << 8) | (word >>> 8)

/**
 * Computes checksums. It keeps views of the memories last used, so that a sum creates no object.
 */
export class ChecksumUnit {
  readonly #headers = new Headers()
  readonly #source = new WordView()
  readonly #target = new WordView()

  /**
   * The folded sum of `memory`'s bytes `start` to `end`, exclusive: at most 65,535 bytes. A last
   * odd byte counts as the high half of a word.
   */
  sum(memory: Uint8Array, start: number, end: number): number {
    const base = memory.byteOffset
    let at = start
    let sum = 0
    if (end - start >= SHORT) {
      for (; ((base + at) & 3) !== 0; at++) sum += inPlace(memory[at] ?? 0, base + at)
      const words = this.#source.of(memory)
      const last = (base + end) >>> 2
      let low = 0
      let high = 0
      for (let i = (base + at) >>> 2; i < last; i++) {
        const word = words[i] ?? 0
        low = (low + (word & 0xffff)) | 0
        high = (high + (word >>> 16)) | 0
      }
      sum += low + high
      at = last * 4 - base
    }
    for (; at < end; at++) sum += inPlace(memory[at] ?? 0, base + at)
    return ((base + start) & 1) === 0 ? swap(fold(sum)) : fold(sum)
  }

  /**
   * Copies `memory`'s bytes `start` to `end`, exclusive, and returns their folded sum: at most
   * 65,535 bytes. It is fast if both addresses in their buffers have the same remainder modulo 4.
   */
  copy(memory: Uint8Array, start: number, end: number, to: Uint8Array, place: number): number {
    const base = memory.byteOffset
    const ahead = place - start
    let at = start
    let sum = 0
    if (end - start >= SHORT && ((to.byteOffset + ahead - base) & 3) === 0) {
      for (; ((base + at) & 3) !== 0; at++) {
        sum += inPlace(memory[at] ?? 0, base + at)
        to[at + ahead] = memory[at] ?? 0
      }
      const words = this.#source.of(memory)
      const target = this.#target.of(to)
      const shift = (to.byteOffset + ahead - base) >> 2
      const last = (base + end) >>> 2
      let low = 0
      let high = 0
      for (let i = (base + at) >>> 2; i < last; i++) {
        const word = words[i] ?? 0
        target[i + shift] = word
        low = (low + (word & 0xffff)) | 0
        high = (high + (word >>> 16)) | 0
      }
      sum += low + high
      at = last * 4 - base
    }
    for (; at < end; at++) {
      sum += inPlace(memory[at] ?? 0, base + at)
      to[at + ahead] = memory[at] ?? 0
    }
    return ((base + start) & 1) === 0 ? swap(fold(sum)) : fold(sum)
  }

  /**
   * The folded sum of the pseudo-header of a TCP or UDP packet.
   * @param start first byte of the frame
   * @param headers the frame's headers
   * @param bytes length of the TCP or UDP header and its payload
   */
  pseudoHeader(memory: Uint8Array, start: number, headers: Headers, bytes: number): number {
    const ipv4 = headers.ethertype === EtherType.IPV4
    const source = start + headers.l3 + (ipv4 ? IPV4_SOURCE : IPV6_SOURCE)
    const destination = start + headers.destination
    const length = ipv4 ? 4 : 16
    return addSums(
      addSums(
        this.sum(memory, source, source + length),
        this.sum(memory, destination, destination + length),
      ),
      addSums(headers.protocol, bytes),
    )
  }

  /**
   * Copies a frame whose checksum is BLANK, and completes the copy's checksum.
   *
   * @param place first byte of the copy in `to`
   * @returns false if the checksum isn't in the frame, or not a word: nothing is copied
   */
  complete(frames: Frames, index: number, to: Uint8Array, place: number): boolean {
    const { memory } = frames
    const start = frames.start[index] ?? 0
    const length = frames.length[index] ?? 0
    const covered = frames.checksumStart[index] ?? 0
    const field = covered + (frames.checksumOffset[index] ?? 0)
    if (field + 2 > length || ((field - covered) & 1) !== 0) return false
    const headers = this.#headers
    let pseudo = readWord(memory, start + field)
    let end = length
    // Some frontends leave another value in the field, or pad the frame with garbage. A checksum
    // elsewhere, as of a packet in a tunnel, comes from a kernel, which keeps to the rule.
    const parsed = headers.parse(memory, start, length) && !headers.fragment
    if (parsed && covered === headers.l4 && field === headers.checksum) {
      end = headers.end
      pseudo = this.pseudoHeader(memory, start, headers, end - covered)
    }
    this.copy(memory, start, start + covered, to, place)
    const sum = this.copy(memory, start + covered, start + end, to, place + covered)
    this.copy(memory, start + end, start + length, to, place + end)
    // The field's old value is in the sum. One's complement subtracts it.
    const value = ~addSums(addSums(sum, ~readWord(memory, start + field) & 0xffff), pseudo) & 0xffff
    // 0 means "no checksum" in UDP. Both of its values are the same number in one's complement.
    writeWord(to, place + field, value === 0 ? 0xffff : value)
    return true
  }
}
