/** `Packet`: a frame as the function of a filter sees it. */
import {
  EtherType,
  Frames,
  Headers,
  IpProtocol,
  NO_PROTOCOL,
  NO_VLAN,
  formatMac,
} from '@xenkit/frames'
import { ipText } from './addresses.ts'
import { u16 } from './bytes.ts'
import type { FrameDirection } from './layer.ts'

/**
 * A frame, decoded in place and on demand: asking for an address as text costs more than asking for
 * a port. It is the same object for all frames of a card, so don't keep it.
 */
export class Packet {
  /** Whether the card's guest sends the frame or is to receive it. */
  direction: FrameDirection = 'from-card'
  readonly #headers = new Headers()
  #parsed = false
  #wellFormed = false
  #frames = new Frames(1)
  #index = 0

  /** Shows a frame of a batch. */
  show(frames: Frames, index: number, direction: FrameDirection): void {
    this.direction = direction
    this.#frames = frames
    this.#index = index
    this.#parsed = false
  }

  /** Bytes of the frame. A GSO frame has up to 65,535. */
  get length(): number {
    return this.#frames.length[this.#index] ?? 0
  }

  /** The frame's bytes: a view of the memory. */
  get bytes(): Uint8Array {
    return this.#frames.bytes(this.#index)
  }

  /** False if a header isn't entirely in the frame, or gives a wrong length. */
  get isWellFormed(): boolean {
    this.#parse()
    return this.#wellFormed
  }

  /** Address of the sender, as in 00:16:3e:01:02:03. */
  get sourceMac(): string {
    return this.#macText(6)
  }

  /** Address of the receiver. */
  get destinationMac(): string {
    return this.#macText(0)
  }

  /** What the frame carries, after its VLAN tags: 0x0800 is IPv4, 0x86dd is IPv6. */
  get etherType(): number {
    return this.#parse().ethertype
  }

  /** Number of the outermost VLAN tag, 0..4095; undefined without a tag. */
  get vlan(): number | undefined {
    const { vlan } = this.#parse()
    return vlan === NO_VLAN ? undefined : vlan
  }

  /** Source of an IPv4 or IPv6 packet; else undefined. */
  get sourceIp(): string | undefined {
    return this.#ip(12, 8)
  }

  /** Destination of an IPv4 or IPv6 packet; else undefined. */
  get destinationIp(): string | undefined {
    return this.#ip(16, 24)
  }

  /** Protocol over IP, 0..255: 6 is TCP, 17 is UDP. Undefined for other packets. */
  get protocol(): number | undefined {
    const { protocol } = this.#parse()
    return protocol === NO_PROTOCOL ? undefined : protocol
  }

  /** Source port of TCP or UDP; else, and in a later fragment, undefined. */
  get sourcePort(): number | undefined {
    return this.#port(0)
  }

  /** Destination port of TCP or UDP; else, and in a later fragment, undefined. */
  get destinationPort(): number | undefined {
    return this.#port(2)
  }

  get #memory(): Uint8Array {
    return this.#frames.memory
  }

  get #start(): number {
    return this.#frames.start[this.#index] ?? 0
  }

  #parse(): Headers {
    if (!this.#parsed) {
      const gso = this.#frames.gso[this.#index] !== 0
      this.#wellFormed = this.#headers.parse(this.#memory, this.#start, this.length, gso)
      this.#parsed = true
    }
    return this.#headers
  }

  #macText(offset: number): string {
    const at = this.#start + offset
    return formatMac(this.#memory.subarray(at, at + 6))
  }

  #ip(in4: number, in6: number): string | undefined {
    const { ethertype, l3, protocol } = this.#parse()
    if (protocol === NO_PROTOCOL) return undefined
    return ethertype === EtherType.IPV4
      ? ipText(this.#memory, this.#start + l3 + in4, 4)
      : ipText(this.#memory, this.#start + l3 + in6, 16)
  }

  #port(offset: number): number | undefined {
    const { protocol, l4 } = this.#parse()
    const hasPorts = protocol === IpProtocol.TCP || protocol === IpProtocol.UDP
    return hasPorts && l4 !== 0 ? u16(this.#memory, this.#start + l4 + offset) : undefined
  }
}
