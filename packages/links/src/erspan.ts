/**
 * `openErspan`: a mirror that sends its copies over IPv4 to a collector, such as Wireshark or a
 * switch. It follows draft-foschiano-erspan-03: type II, which is version 1 in the header.
 *
 * The copies are whole Ethernet frames to one MAC address, so the host needs no GRE of its own.
 * Each has in front: Ethernet 14, IPv4 20, GRE 8, ERSPAN 8 bytes.
 */
import { ChecksumUnit, EtherType, Frames, type Link, type LinkEnd, MAX_FRAME } from '@xenkit/frames'
import { expectInteger } from '@xenkit/hypervisor'
import { parseIpv4, expectMac } from './addresses.ts'
import { setU16, setU32, u16 } from './bytes.ts'
import { Mirror } from './mirror.ts'
import { type VirtualCardOptions, virtualCard } from './virtual-card.ts'

/** Addresses of one end of the tunnel. */
export interface ErspanAddress {
  /** As in 00:16:3e:01:02:03. That of the router, if the collector is behind one. */
  readonly mac: string
  /** An IPv4 address. */
  readonly ip: string
}

/** Options of `openErspan`. */
export interface ErspanOptions extends VirtualCardOptions {
  /** Sender of the copies. */
  readonly from: ErspanAddress
  /** Collector of the copies. */
  readonly to: ErspanAddress
  /** Number of the session, 0..1023, by which collectors tell mirrors apart. Default 0. */
  readonly session?: number
  /**
   * Most bytes of an IP packet of the link, 576..65521, default 1500. Longer copies are truncated
   * to it, and marked so. For whole frames of 1500 bytes of data, it is 1550.
   */
  readonly mtu?: number
}

const ETHERNET = 14
const IPV4 = 20
const GRE = 8
const ERSPAN = 8
const OVERHEAD = ETHERNET + IPV4 + GRE + ERSPAN
const MIN_MTU = 576
const MAX_SESSION = 1023
/** Copies in a batch. */
const BATCH = 64

const GRE_PROTOCOL = 47
/** GRE flags: a sequence number follows. */
const GRE_HAS_SEQUENCE = 0x1000
const GRE_ERSPAN_2 = 0x88be
const ERSPAN_VERSION = 1
/** ERSPAN header: priority of the frame, as in a VLAN tag. */
const PRIORITY = 0xe000
/** ERSPAN header: the frame is truncated. */
const TRUNCATED = 0x0400
/** ERSPAN header: the frame has its VLAN tag still. */
const HAS_TAG = 0x1800
const DONT_FRAGMENT = 0x4000
const TIME_TO_LIVE = 64
const MIN_TAGGED = 18

/**
 * Opens a mirror that sends its copies to a collector, by ERSPAN type II. TCP segments of 64 KiB
 * are split, and blank checksums completed, before they are copied.
 * @throws RangeError for an option that isn't valid
 * @throws Error of the link
 */
export async function openErspan(link: Link, o: ErspanOptions): Promise<Mirror> {
  const packets = new ErspanPackets(o)
  let mirror: Mirror | undefined
  const card = virtualCard(o, async () => mirror?.close())
  const end = await link.plug({ ...card, send: () => {} })
  packets.end = end
  mirror = new Mirror(packets, () => end.close())
  return mirror
}

/** Puts frames into packets for a collector. */
class ErspanPackets implements LinkEnd {
  /** Takes the packets. */
  end: LinkEnd | undefined
  /** Headers of all packets, with zeroes where they differ. */
  readonly #headers: Uint8Array
  readonly #session: number
  /** Most bytes of a copy. */
  readonly #room: number
  readonly #batch = new Frames(BATCH)
  readonly #unit = new ChecksumUnit()
  #sequence = 0

  constructor({ from, to, session = 0, mtu = 1500 }: ErspanOptions) {
    expectInteger('session', session, 0, MAX_SESSION)
    expectInteger('mtu', mtu, MIN_MTU, MAX_FRAME - ETHERNET)
    this.#session = session
    this.#room = mtu - (OVERHEAD - ETHERNET)
    this.#headers = Uint8Array.from([
      ...expectMac(to.mac),
      ...expectMac(from.mac),
      ...word(EtherType.IPV4),
      ...word(0x4500),
      ...word(0),
      ...word(0),
      ...word(DONT_FRAGMENT),
      ...word((TIME_TO_LIVE << 8) | GRE_PROTOCOL),
      ...word(0),
      ...parseIpv4(from.ip),
      ...parseIpv4(to.ip),
      ...word(GRE_HAS_SEQUENCE),
      ...word(GRE_ERSPAN_2),
    ])
    this.#batch.reset(new Uint8Array(BATCH * (OVERHEAD + this.#room)))
  }

  /** Takes complete frames only, as a collector has no use for others. */
  send(frames: Frames): void {
    for (let i = 0; i < frames.count; i++) {
      this.#add(frames, i)
      if (this.#batch.count === BATCH) this.#flush()
    }
    this.#flush()
  }

  #flush(): void {
    if (this.#batch.count > 0) this.end?.send(this.#batch)
    this.#batch.reset()
  }

  #add(frames: Frames, i: number): void {
    const { memory } = this.#batch
    const start = frames.start[i] ?? 0
    const whole = frames.length[i] ?? 0
    const length = Math.min(whole, this.#room)
    const at = this.#batch.count * (OVERHEAD + this.#room)
    memory.set(this.#headers, at)
    const ip = at + ETHERNET
    setU16(memory, ip + 2, IPV4 + GRE + ERSPAN + length)
    setU16(memory, ip + 10, 0xffff ^ this.#unit.sum(memory, ip, ip + IPV4))
    setU32(memory, ip + IPV4 + 4, this.#sequence)
    this.#sequence = (this.#sequence + 1) >>> 0
    const isTagged = whole >= MIN_TAGGED && u16(frames.memory, start + 12) === EtherType.VLAN
    const tag = isTagged ? u16(frames.memory, start + 14) : 0
    const erspan = ip + IPV4 + GRE
    setU16(memory, erspan, (ERSPAN_VERSION << 12) | (tag & 0xfff))
    setU16(
      memory,
      erspan + 2,
      (tag & PRIORITY) |
        (isTagged ? HAS_TAG : 0) |
        (length < whole ? TRUNCATED : 0) |
        this.#session,
    )
    memory.set(frames.memory.subarray(start, start + length), at + OVERHEAD)
    this.#batch.add({ start: at, length: OVERHEAD + length })
  }
}

const word = (value: number): number[] => [value >> 8, value & 0xff]
