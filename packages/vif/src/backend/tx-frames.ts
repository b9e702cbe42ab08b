/**
 * Describes packets of a guest as frames. The packets lie in private memory, so what is checked
 * here is what is sent. A frame that is to be completed later, by its checksum or by segmentation,
 * needs headers that say where: netback drops one whose headers can't be parsed, and so do we.
 */
import {
  Checksum,
  ChecksumUnit,
  EtherType,
  type Frames,
  Gso,
  Headers,
  IpProtocol,
} from '@xenkit/frames'
import { NETTXF } from '@xenkit/wire'
import type { TxPackets } from './tx-packets.ts'

/** Offset of the checksum in a TCP and in a UDP header. */
const TCP_CHECKSUM = 16
const UDP_CHECKSUM = 6

/**
 * Most segments that a frame may ask for. It lets 64 KiB be split for the smallest MSS that Linux's
 * TCP uses (48 less 12 bytes of options), and takes software about two milliseconds. Without it,
 * one slot could cost 65,481 segments.
 */
const SEGMENTS_MAX = 2048

export class TxFrames {
  readonly #headers = new Headers()
  readonly #checksums = new ChecksumUnit()

  /**
   * Adds a packet to the frames, which have room for it.
   * @param at index of the packet in its columns
   * @param start first byte of the packet in the frames' memory
   * @returns false if its headers lie: it is to be dropped
   */
  add(frames: Frames, packets: TxPackets, at: number, start: number): boolean {
    const i = frames.count
    const length = packets.size[at] ?? 0
    const flags = packets.flags[at] ?? 0
    const gso = packets.gso[at] ?? Gso.NONE
    frames.start[i] = start
    frames.length[i] = length
    frames.gso[i] = Gso.NONE
    if (gso !== Gso.NONE || flags & NETTXF.csum_blank) {
      const gsoSize = packets.gsoSize[at] ?? 0
      const isBlank = (flags & NETTXF.csum_blank) !== 0
      if (!this.#addIncomplete(frames, gso, gsoSize, isBlank)) return false
    } else {
      frames.checksum[i] = flags & NETTXF.data_validated ? Checksum.VERIFIED : Checksum.COMPLETE
    }
    frames.count = i + 1
    return true
  }

  /** Describes a frame with a blank checksum, which every GSO frame has. */
  #addIncomplete(frames: Frames, gso: number, gsoSize: number, isBlank: boolean): boolean {
    const headers = this.#headers
    const { memory } = frames
    const i = frames.count
    const start = frames.start[i] ?? 0
    const length = frames.length[i] ?? 0
    if (gso !== Gso.NONE) {
      if (!headers.parse(memory, start, length, true) || !this.#isTcp(gso)) return false
      const payload = length - headers.length
      if (payload > gsoSize * SEGMENTS_MAX) return false
      // A frame with the payload of one segment needs no segmentation, but lengths that are right.
      if (payload > gsoSize) {
        frames.gso[i] = gso
        frames.gsoSize[i] = gsoSize
        frames.headers[i] = headers.length
      }
    }
    if (frames.gso[i] === Gso.NONE && !headers.parse(memory, start, length)) return false
    const { l4, protocol, fragment } = headers
    const isTcp = protocol === IpProtocol.TCP
    if (l4 === 0 || fragment || (!isTcp && protocol !== IpProtocol.UDP)) return false
    const place = isTcp ? TCP_CHECKSUM : UDP_CHECKSUM
    frames.checksum[i] = Checksum.BLANK
    frames.checksumStart[i] = l4
    frames.checksumOffset[i] = place
    if (!isBlank) {
      // Some guests forget the flag of a GSO frame. A blank field holds the pseudo-header's sum.
      const sum = this.#checksums.pseudoHeader(memory, start, headers, headers.end - l4)
      memory[start + l4 + place] = sum >>> 8
      memory[start + l4 + place + 1] = sum
    }
    return true
  }

  #isTcp(gso: number): boolean {
    const { ethertype, protocol, l4 } = this.#headers
    const type = gso === Gso.TCPV4 ? EtherType.IPV4 : EtherType.IPV6
    return ethertype === type && protocol === IpProtocol.TCP && l4 !== 0
  }
}
