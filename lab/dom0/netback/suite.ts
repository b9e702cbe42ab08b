/** Checks of `openVif` that must pass against any backend. */
import { deepStrictEqual, ok, strictEqual } from 'node:assert'
import { ALL_OFFLOADS, Gso, type Hypervisor, type OpenVifOptions, openVif } from 'xenkit'
import { check, soon } from '../tap.ts'
import {
  arpAnswer,
  arpRequest,
  be32,
  type Built,
  noise,
  parse,
  type Parsed,
  pingAnswer,
  pingRequest,
  type Station,
  tcpFrame,
  udpFrame,
  type Version,
} from './packets.ts'
import { Party, type Received } from './station.ts'

/** Two cards that a backend serves, on one bridge of the kernel. */
export interface Served {
  readonly name: string
  /** Numbers of the cards. */
  readonly cards: readonly [number, number]
  /** The bridge, as whose addresses the kernel answers. */
  readonly host: Station
  /** The parties behind the cards. The kernel knows their addresses. */
  readonly parties: readonly [Station, Station]
  /** UDP port on which the kernel's side echoes. */
  readonly echoPort: number
}

type Setup = Omit<OpenVifOptions, 'devid'>

const SETUPS: readonly Setup[] = [
  {},
  { splitChannels: false },
  { queues: 2, splitChannels: true },
  { queues: 2, splitChannels: false, staticGrants: false },
]

/** Fits a frame of 1514 bytes over IPv6, too. */
const MSS = 1400
/** Datagrams in flight: fewer than an interface queues. */
const WINDOW = 16
const versions: readonly Version[] = [4, 6]

export async function checkCard(hv: Hypervisor, served: Served): Promise<void> {
  const { name, host, echoPort } = served
  const [alice, bob] = served.parties

  /** Runs `work` with the first card, or with both. */
  const withCards = async (
    setups: readonly Setup[],
    work: (...parties: readonly Party[]) => Promise<void>,
  ): Promise<void> => {
    const parties: Party[] = []
    try {
      for (const [i, setup] of setups.entries()) {
        const devid = served.cards[i] ?? 0
        parties.push(new Party(await soon('the attach', openVif(hv, { devid, ...setup }))))
      }
      await work(...parties)
    } finally {
      for (const party of parties) await soon('the close', party.close())
    }
  }

  for (const setup of SETUPS) {
    await check(`${name}: ARP and ping are answered, with ${JSON.stringify(setup)}`, () =>
      withCards([setup], async (party) => {
        await party?.vif.sendFrame(arpRequest(alice, host))
        const asked = party?.receive('an ARP reply', ({ bytes }) => arpAnswer(bytes, host))
        deepStrictEqual(await asked, host.mac)
        for (const length of [0, 1, 56, 1000, 1472]) {
          const payload = noise(length, length)
          await party?.vif.sendFrame(pingRequest(alice, host, payload))
          const echo = await party?.receive('an echo', ({ bytes }) => pingAnswer(bytes))
          ok(echo)
          // Padding of short frames isn't part of the payload.
          deepStrictEqual(echo, payload)
        }
      }),
    )
  }

  for (const version of versions) {
    for (const blank of [false, true]) {
      const kind = `${blank ? 'blank' : 'complete'} checksums`
      await check(`${name}: datagrams of all sizes come back, IPv${version}, ${kind}`, () =>
        withCards([{ queues: 2, offloads: ALL_OFFLOADS }], async (party) => {
          const most = version === 4 ? 1472 : 1452
          for (let size = 0; size <= most; size += WINDOW) {
            const sizes = Array.from({ length: WINDOW }, (_, i) => Math.min(most, size + i))
            const frames = sizes.map((length, i) =>
              udpFrame({
                version,
                from: alice,
                to: host,
                ports: [2000 + i, echoPort],
                payload: noise(length, length),
                blank,
              }),
            )
            const queue = (size / WINDOW) % 2
            await party?.send(frames, blank ? { checksumOffset: 6 } : undefined, queue)
            const missing = new Map(sizes.map((length, i) => [2000 + i, length]))
            while (missing.size > 0) {
              const { ports, payload } = await receiveEcho(party, echoPort)
              const length = missing.get(ports[1])
              if (length === undefined) continue
              deepStrictEqual(payload, noise(length, length))
              missing.delete(ports[1])
            }
          }
        }),
      )
    }
  }

  for (const version of versions) {
    const gso = version === 4 ? Gso.TCPV4 : Gso.TCPV6
    const segment = (length: number): Built =>
      tcpFrame(
        { version, from: alice, to: bob, ports: [80, 81], payload: noise(length, 1), blank: true },
        1000,
      )
    const isSegment = (frame: Received): Received | undefined =>
      parse(frame.bytes)?.ports[1] === 81 ? frame : undefined

    for (const length of [2000, 20_000, 65_160]) {
      await check(
        `${name}: a segment of ${length} bytes goes whole from card to card, IPv${version}`,
        () =>
          withCards([{}, { offloads: ALL_OFFLOADS }], async (from, to) => {
            const sent = segment(length)
            await from?.send([sent], { checksumOffset: 16, gso, gsoSize: MSS })
            const got = await to?.receive('the segment', isSegment)
            deepStrictEqual([got?.gso, got?.gsoSize], [gso, MSS])
            deepStrictEqual(got?.bytes, sent.bytes)
          }),
      )
    }
    await check(`${name}: it is split for a card that takes none, IPv${version}`, () =>
      withCards([{}, {}], async (from, to) => {
        const sent = segment(20_000)
        await from?.send([sent], { checksumOffset: 16, gso, gsoSize: MSS })
        const payload = sent.bytes.subarray(sent.headers)
        for (let at = 0; at < payload.length;) {
          const frame = await to?.receive('a part', isSegment)
          ok(frame && frame.gso === Gso.NONE && frame.bytes.length <= 1514)
          const part = parse(frame.bytes)
          ok(part?.isValid, 'the checksum is right')
          deepStrictEqual(part.payload, payload.slice(at, at + MSS))
          at += part.payload.length
        }
      }),
    )
  }

  await check(`${name}: 4000 frames of all sizes from card to card, in order and whole`, () =>
    withCards([{}, {}], async (from, to) => {
      for (let first = 0; first < 4000; first += WINDOW) {
        const frames = Array.from({ length: WINDOW }, (_, i) => numbered(alice, bob, first + i))
        await from?.send(frames)
        for (const { bytes } of frames) {
          const got = await to?.receive('a frame', ({ bytes: each }) =>
            parse(each)?.ports[1] === 90 ? each : undefined,
          )
          deepStrictEqual(got?.subarray(0, bytes.length), bytes)
        }
      }
    }),
  )

  await check(`${name}: closed with frames in flight and attached again, five times`, async () => {
    for (let life = 0; life < 5; life++) {
      await withCards([{ queues: 1 + (life % 2) }, {}], async (from, to) => {
        await from?.send(Array.from({ length: 200 }, (_, i) => numbered(alice, bob, i)))
        await to?.receive('a frame', ({ bytes }) =>
          parse(bytes)?.ports[1] === 90 ? bytes : undefined,
        )
      })
    }
  })

  await check(`${name}: multicast arrives once its address is added, and until it is removed`, () =>
    withCards([{}, { multicastControl: true }], async (from, to) => {
      const group = { ...bob, mac: [1, 0, 0x5e, 1, 2, 3], v4: [239, 1, 2, 3] }
      const send = async (port: number, to: Station): Promise<void> => {
        const o = { version: 4, from: alice, to, payload: noise(100, port) } as const
        await from?.send([udpFrame({ ...o, ports: [1, port] })])
      }
      const next = async (): Promise<number | undefined> =>
        to?.receive('a datagram', ({ bytes }) => {
          const port = parse(bytes)?.ports[1]
          return port !== undefined && port >= 3000 && port < 3010 ? port : undefined
        })
      const mac = Uint8Array.from(group.mac)
      // The first datagram is filtered: the one after it is the first to arrive.
      await send(3000, group)
      await send(3001, bob)
      strictEqual(await next(), 3001)
      ok(to?.vif.setMulticast(mac, true))
      // The change takes effect in the ring's order, which a frame of this card's shows.
      await to?.vif.sendFrame(arpRequest(bob, host))
      await to?.receive('an ARP reply', ({ bytes }) => arpAnswer(bytes, host))
      await send(3002, group)
      strictEqual(await next(), 3002)
      ok(to?.vif.setMulticast(mac, false))
      await to?.vif.sendFrame(arpRequest(bob, host))
      await to?.receive('an ARP reply', ({ bytes }) => arpAnswer(bytes, host))
      await send(3003, group)
      await send(3004, bob)
      strictEqual(await next(), 3004)
    }),
  )

  await check(`${name}: frames arrive whole after a headroom of 256 bytes`, () =>
    withCards([{}, { xdpHeadroom: 256 }], async (from, to) => {
      for (const at of [1, 700, 1400]) {
        const sent = numbered(alice, bob, at)
        await from?.send([sent])
        const got = await to?.receive('a frame', ({ bytes }) =>
          parse(bytes)?.ports[1] === 90 ? bytes : undefined,
        )
        deepStrictEqual(got?.subarray(0, sent.bytes.length), sent.bytes)
      }
    }),
  )

  await check(`${name}: the hash chooses the queue: each flow keeps to one, both are used`, () =>
    withCards([{}, { queues: 2 }], async (from, to) => {
      await to?.vif.setHash({ types: 0b1111, key: noise(40, 3), mapping: [0, 1] })
      const queues = new Map<number, number>()
      for (let i = 0; i < 64; i++) {
        const port = 4000 + (i % 32)
        const o = { version: 4, from: alice, to: bob, payload: noise(64, i) } as const
        await from?.send([tcpFrame({ ...o, ports: [port, 91] }, 1)])
        const queue = await to?.receive('a segment', (frame) =>
          parse(frame.bytes)?.ports[1] === 91 ? frame.queue : undefined,
        )
        const first = queues.get(port)
        if (first !== undefined) strictEqual(queue, first)
        queues.set(port, queue ?? -1)
      }
      deepStrictEqual([...new Set(queues.values())].toSorted(), [0, 1])
    }),
  )
}

async function receiveEcho(party: Party | undefined, port: number): Promise<Parsed> {
  ok(party)
  return party.receive('an echoed datagram', ({ bytes }) => {
    const parsed = parse(bytes)
    return parsed?.ports[0] === port ? parsed : undefined
  })
}

/** A datagram whose size and content follow from its number. */
function numbered(from: Station, to: Station, number: number): Built {
  const size = (number * 37) % 1400
  const payload = Uint8Array.from([...be32(number), ...noise(size, number)])
  return udpFrame({ version: 4, from, to, ports: [1, 90], payload })
}
