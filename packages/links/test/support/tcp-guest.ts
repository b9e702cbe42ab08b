/**
 * A card for tests whose guest speaks just enough ARP and TCP, over IPv4, to open a connection and
 * move data. It takes incomplete frames, and checks the checksums of complete ones.
 */
import {
  ALL_OFFLOADS,
  type Card,
  Checksum,
  Frames,
  Gso,
  type Offloads,
  type PluggedLink,
} from '@xenkit/frames'
import { arp, BROADCAST, ethernet, hex, ipv4, mac, macOf, word } from './frames.ts'

const [FIN, SYN, PUSH, ACK] = [1, 2, 8, 16]
const PORT = 40_000
const TCP = 6

export interface TcpGuestOptions {
  readonly ip: string
  readonly peer: string
  readonly port: number
  readonly offloads?: Offloads
}

export class TcpGuest implements Card {
  readonly name = 'vif1.0'
  readonly domid = 1
  readonly devid = 0
  readonly mac = Uint8Array.from(mac(macOf(1)))
  readonly offloads: Offloads
  readonly carriers: boolean[] = []
  readonly failures: unknown[] = []
  /** Payload that came, in order. */
  readonly data: Buffer[] = []
  /** Longest TCP frame that came. */
  longest = 0
  link: PluggedLink | undefined
  readonly #o: TcpGuestOptions
  #peerMac = ''
  #seq = 1000
  #ack = 0
  #state: 'new' | 'open' = 'new'

  constructor(o: TcpGuestOptions) {
    this.#o = o
    this.offloads = o.offloads ?? ALL_OFFLOADS
  }

  get isOpen(): boolean {
    return this.#state === 'open'
  }

  /** Asks for the peer's MAC address; the connection opens after that. */
  open(): void {
    const asked = arp({ operation: 1, mac: macOf(1), ip: this.#o.ip, target: this.#o.peer })
    this.#state = 'new'
    this.#transmit([ethernet({ to: BROADCAST, type: 0x0806, payload: asked })])
  }

  /** Sends data in one frame, a GSO frame with a `segment` size. */
  write(data: Uint8Array, segment = 0): void {
    this.#tcp(PUSH | ACK, data, segment)
    this.#seq += data.length
  }

  carrier(up: boolean): void {
    this.carriers.push(up)
  }

  fail(error: unknown): void {
    this.failures.push(error)
  }

  send(frames: Frames): void {
    for (let i = 0; i < frames.count; i++) {
      const headers = 34 + ((frames.bytes(i)[46] ?? 0) >> 4) * 4
      if (frames.gso[i] !== Gso.NONE && frames.headers[i] !== headers) {
        throw new Error(`a segment with ${frames.headers[i]} bytes of headers, not ${headers}`)
      }
      this.#receive(Buffer.from(frames.bytes(i)), frames.checksum[i] === Checksum.COMPLETE)
    }
  }

  #receive(frame: Buffer, isComplete: boolean): void {
    const type = frame.readUInt16BE(12)
    if (type === 0x0806 && frame.readUInt16BE(20) === 2 && this.#state === 'new') {
      this.#peerMac = [...frame.subarray(6, 12)].map(hex).join(':')
      this.#tcp(SYN, new Uint8Array(0))
    }
    const isOurs = type === 0x0800 && frame[23] === TCP && frame.readUInt16BE(36) === PORT
    if (!isOurs) return
    const segment = frame.subarray(34, 14 + frame.readUInt16BE(16))
    if (isComplete && sum([...pseudo(segment.length, frame), ...segment]) !== 0xffff) {
      throw new Error('a segment with a wrong checksum')
    }
    this.longest = Math.max(this.longest, frame.length)
    const flags = segment[13] ?? 0
    const data = segment.subarray(((segment[12] ?? 0) >> 4) * 4)
    if (flags & SYN) {
      this.#seq = 1001
      this.#ack = segment.readUInt32BE(4) + 1
      this.#tcp(ACK, new Uint8Array(0))
      this.#state = 'open'
    } else if (data.length > 0) {
      if (segment.readUInt32BE(4) === this.#ack) {
        this.data.push(Buffer.from(data))
        this.#ack += data.length + (flags & FIN)
      }
      this.#tcp(ACK, new Uint8Array(0))
    }
  }

  #tcp(flags: number, data: Uint8Array, segment = 0): void {
    const options = flags & SYN ? [2, 4, 0x05, 0xb4, 3, 3, 7, 0] : []
    const header = Buffer.from([
      ...word(PORT),
      ...word(this.#o.port),
      ...word(0),
      ...word(0),
      ...word(0),
      ...word(0),
      (5 + options.length / 4) << 4,
      flags,
      ...word(0xffff),
      ...word(0),
      ...word(0),
      ...options,
    ])
    header.writeUInt32BE(this.#seq, 4)
    header.writeUInt32BE(this.#ack, 8)
    const { ip, peer } = this.#o
    const payload = [...header, ...data]
    const packet = ipv4({ from: ip, to: peer, protocol: TCP, payload })
    packet.splice(10, 2, ...word(0xffff - sum(packet.slice(0, 20))))
    const frame = ethernet({ to: this.#peerMac, type: 0x0800, payload: packet })
    const bare = sum(pseudo(payload.length, Uint8Array.from(frame)))
    const checksum = segment > 0 ? bare : 0xffff - sum([...word(bare), ...payload])
    frame.splice(50, 2, ...word(checksum))
    this.#transmit([frame], segment, 34 + header.length)
  }

  #transmit(frames: readonly number[][], gsoSize = 0, headers = 0): void {
    const batch = new Frames(frames.length)
    for (const frame of frames) {
      batch.reset(Uint8Array.from(frame))
      const gso = {
        checksum: Checksum.BLANK,
        checksumStart: 34,
        checksumOffset: 16,
        gso: Gso.TCPV4,
        gsoSize,
        headers,
      }
      batch.add({ start: 0, length: frame.length, ...(gsoSize > 0 && gso) })
      this.link?.send(batch)
    }
  }
}

/** The pseudo-header of a frame's TCP segment. */
const pseudo = (length: number, frame: Uint8Array): number[] => [
  ...frame.subarray(26, 34),
  0,
  TCP,
  ...word(length),
]

/** One's complement sum of 16-bit words. */
function sum(bytes: readonly number[]): number {
  let total = 0
  for (let at = 0; at < bytes.length; at += 2) {
    total += (bytes[at] ?? 0) * 256 + (bytes[at + 1] ?? 0)
  }
  while (total > 0xffff) total = (total & 0xffff) + Math.floor(total / 0x10000)
  return total
}
