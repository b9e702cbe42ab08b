/** `mirrorLink`, `openMirror` and `openErspan`: what is copied, and how it looks. */
import { execFileSync, spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, test, vi } from 'vitest'
import { ALL_OFFLOADS, Checksum, Frames, Gso, NO_OFFLOADS } from '@xenkit/frames'
import {
  type ErspanOptions,
  captureLink,
  mirrorLink,
  openCable,
  openCapture,
  openErspan,
  openMirror,
  openSwitch,
} from '../src/index.ts'
import { batchOf, ethernet, ip4, ipv4, mac, macOf, word } from './support/frames.ts'
import { TestCard } from './support/test-card.ts'

const frame = (number: number, bytes = 0): number[] =>
  ethernet({ from: macOf(number), payload: Array.from({ length: bytes }, () => number) })

/** Two cards, the first of which is mirrored to a third. */
async function mirrored(direction?: 'from-card' | 'to-card', offloads = ALL_OFFLOADS) {
  const [near, far] = openCable()
  const [span, monitorEnd] = openCable()
  const monitor = await new TestCard({ offloads }).plugInto(monitorEnd)
  const mirror = await openMirror(span)
  const card = await new TestCard().plugInto(mirrorLink(near, mirror, direction))
  const peer = await new TestCard().plugInto(far)
  return { card, peer, monitor, mirror }
}

test.each([
  [undefined, [1, 2]],
  ['from-card', [1]],
  ['to-card', [2]],
] as const)('frames of direction %s are copied', async (direction, copied) => {
  const { card, peer, monitor, mirror } = await mirrored(direction)
  card.transmit(frame(1))
  peer.transmit(frame(2))
  expect(card.take()).toEqual([frame(2)])
  expect(peer.take()).toEqual([frame(1)])
  expect(monitor.take()).toEqual(copied.map((number) => frame(number)))
  expect(mirror.copied).toBe(copied.length)
  monitor.transmit(frame(3))
  expect([card.take(), peer.take()]).toEqual([[], []])
  await mirror.close()
  await mirror.close()
  card.transmit(frame(1))
  expect([peer.take(), monitor.take()]).toEqual([[frame(1)], []])
})

test('a monitor that takes complete frames only changes nothing for the others', async () => {
  const { card, peer, monitor } = await mirrored(undefined, NO_OFFLOADS)
  const packet = ipv4({
    from: '10.0.0.1',
    to: '10.0.0.2',
    protocol: 6,
    payload: [
      ...[1, 2, 0, 1, 0, 0].flatMap(word),
      ...[0x5010, 0x100, 0, 0].flatMap(word),
      ...Array.from({ length: 3000 }, () => 9),
    ],
  })
  const bytes = ethernet({ type: 0x0800, payload: packet })
  const batch = new Frames(1)
  batch.reset(Uint8Array.from(bytes))
  batch.add({
    start: 0,
    length: bytes.length,
    checksum: Checksum.BLANK,
    checksumStart: 34,
    checksumOffset: 16,
    gso: Gso.TCPV4,
    gsoSize: 1000,
    headers: 54,
  })
  card.link.send(batch)
  expect(peer.take()).toEqual([bytes])
  expect(monitor.take().map(({ length }) => length)).toEqual([1054, 1054, 1054])
})

test('copies that come back to the link are not copied again', async () => {
  const sw = openSwitch()
  const mirror = await openMirror(sw.port())
  const card = await new TestCard().plugInto(mirrorLink(sw.port(), mirror))
  const peer = await new TestCard().plugInto(sw.port())
  card.transmit(frame(1))
  expect(peer.take()).toEqual([frame(1), frame(1)])
  expect(mirror).toMatchObject({ copied: 1, looped: 1 })
})

test('a link that is lost ends the mirror, and is reported', async () => {
  const onFail = vi.fn<(error: unknown) => void>()
  const close = vi.fn<() => void>()
  let lose: ((error: unknown) => void) | undefined
  const mirror = await openMirror(
    {
      plug: (card) => {
        lose = (error) => card.fail(error)
        return { send: () => {}, close }
      },
    },
    { onFail },
  )
  lose?.('gone')
  expect(onFail).toHaveBeenCalledWith('gone')
  mirror.copy(batchOf(frame(1)))
  expect(close).toHaveBeenCalledOnce()
})

describe('ERSPAN', () => {
  const options: ErspanOptions = {
    from: { mac: macOf(100), ip: '192.0.2.1' },
    to: { mac: macOf(101), ip: '192.0.2.2' },
    session: 0x155,
    mtu: 576,
  }

  /** A mirror to a collector. */
  async function collecting(o: ErspanOptions = options) {
    const [near, far] = openCable()
    const collector = await new TestCard({ offloads: NO_OFFLOADS }).plugInto(far)
    return { mirror: await openErspan(near, o), collector }
  }

  /** The headers of a copy, with their lengths, the IP checksum, and what differs. */
  const headers = (
    bytes: number,
    checksum: number,
    sequence: number,
    erspan: number[],
  ): number[] => [
    ...mac(macOf(101)),
    ...mac(macOf(100)),
    ...word(0x0800),
    ...[0x4500, 36 + bytes, 0, 0x4000, 0x402f, checksum].flatMap(word),
    ...ip4('192.0.2.1'),
    ...ip4('192.0.2.2'),
    ...[0x1000, 0x88be, 0, sequence].flatMap(word),
    ...erspan,
  ]

  test('a copy is the frame behind Ethernet, IPv4, GRE and ERSPAN headers', async () => {
    const { mirror, collector } = await collecting()
    const tagged = ethernet({ tags: [0xb123], payload: [1, 2] })
    mirror.copy(batchOf(frame(1, 3), tagged))
    // Checksums by hand: 0xffff minus the sum of the other words, the carries added.
    expect(collector.take()).toEqual([
      [...headers(17, 0xb696, 0, [0x10, 0, 0x01, 0x55, 0, 0, 0, 0]), ...frame(1, 3)],
      [...headers(20, 0xb693, 1, [0x11, 0x23, 0xb9, 0x55, 0, 0, 0, 0]), ...tagged],
    ])
  })

  test('a frame that is too long is truncated, and marked', async () => {
    const { mirror, collector } = await collecting()
    mirror.copy(batchOf(frame(1, 526), frame(2, 527)))
    const [whole = [], cut = []] = collector.take()
    expect([whole.length, whole[44]]).toEqual([14 + 576, 0x01])
    expect([cut.length, cut[44]]).toEqual([14 + 576, 0x05])
    expect(cut.slice(50)).toEqual(frame(2, 527).slice(0, 540))
  })

  test('many frames keep their order', async () => {
    const { mirror, collector } = await collecting()
    mirror.copy(batchOf(...Array.from({ length: 200 }, (_, i) => frame(i, 1))))
    expect(collector.take().map((it) => [it[41], it[64]])).toEqual(
      Array.from({ length: 200 }, (_, i) => [i, i]),
    )
  })

  test.each([
    [{ session: 1024 }, /"session"/],
    [{ mtu: 575 }, /"mtu"/],
    [{ to: { mac: macOf(1), ip: '::1' } }, /IPv4 address/],
    [{ from: { mac: 'x', ip: '10.0.0.1' } }, /MAC address/],
  ])('%j is refused', async (wrong, message) => {
    await expect(openErspan(openCable()[0], { ...options, ...wrong })).rejects.toThrow(message)
  })

  const hasTshark = spawnSync('tshark', ['--version']).status === 0

  test.skipIf(!hasTshark)('tshark finds the frame in it', { timeout: 30_000 }, async () => {
    const directory = mkdtempSync(join(tmpdir(), 'xenkit-erspan-'))
    const capture = await openCapture(join(directory, 'copies'))
    const [near, far] = openCable()
    await new TestCard().plugInto(far)
    const mirror = await openErspan(captureLink(near, capture), options)
    const packet = ipv4({ from: '10.0.0.1', to: '10.0.0.2', protocol: 1, payload: [8, 0, 0, 0] })
    mirror.copy(batchOf(ethernet({ tags: [0x6007], type: 0x0800, payload: packet })))
    await capture.close()
    const fields = ['ip.dst', 'ip.checksum.status', 'erspan.spanid', 'erspan.vlan', 'vlan.id']
    const output = execFileSync(
      'tshark',
      [
        '-o',
        'ip.check_checksum:TRUE',
        '-r',
        join(directory, 'copies'),
        '-T',
        'fields',
        ...fields.flatMap((field) => ['-e', field]),
      ],
      { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] },
    )
    // The inner packet's checksum is left 0 by the test.
    expect(output.trim()).toBe('192.0.2.2,10.0.0.2\t1,0\t341\t7\t7')
    rmSync(directory, { recursive: true })
  })
})
