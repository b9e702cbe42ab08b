/** The switch: VLANs, and frames whose tag changes. */
import { expect, test } from 'vitest'
import { Checksum, type Frames, Gso } from '@xenkit/frames'
import { openSwitch } from '../../src/index.ts'
import { batchOf, ethernet, macOf } from '../support/frames.ts'
import { network } from '../support/network.ts'
import { TestCard } from '../support/test-card.ts'

test('tags are added and removed as ports want them, with the priority kept', async () => {
  const { cards, ports } = await network(
    { vlan: { access: 10 } },
    { vlan: { trunk: [10, 20], native: 30 } },
    { vlan: { access: 20 } },
    { vlan: { trunk: 'all' } },
  )
  const [a, trunk, b, all] = cards
  const plain = (from: number): number[] => ethernet({ from: macOf(from), payload: [1, 2, 3] })
  const tagged = (from: number, tag: number): number[] =>
    ethernet({ from: macOf(from), tags: [tag], payload: [1, 2, 3] })
  a?.transmit(plain(1))
  expect(trunk?.take()).toEqual([tagged(1, 10)])
  expect(all?.take()).toEqual([tagged(1, 10)])
  expect(b?.take()).toEqual([])
  trunk?.transmit(tagged(2, 0xe014), plain(3), tagged(4, 0x6000), tagged(5, 30))
  expect(b?.take()).toEqual([plain(2)])
  expect(a?.take()).toEqual([])
  expect(all?.take()).toEqual([tagged(2, 0xe014), tagged(3, 30), tagged(4, 0x601e), tagged(5, 30)])
  // A tag that ends in its middle.
  trunk?.transmit(ethernet({ from: macOf(6), type: 0x8100, payload: [0] }).slice(0, 15))
  // Not in the port's VLANs, tagged at an access port, untagged at a trunk without a native VLAN.
  trunk?.transmit(tagged(2, 11), tagged(2, 4095))
  a?.transmit(tagged(1, 10))
  all?.transmit(plain(6), ethernet({ from: macOf(6), type: 0x8100, payload: [0] }))
  for (const card of cards) expect(card.take()).toEqual([])
  expect(ports.map(({ stats }) => stats.wrongVlan)).toEqual([1, 3, 0, 2])
})

test('a second tag is never bared by removing the first', async () => {
  const { cards, ports } = await network({ vlan: { trunk: 'all' } }, { vlan: { access: 5 } })
  const [a, b] = cards
  a?.transmit(ethernet({ tags: [5, 6] }))
  expect(b?.take()).toEqual([])
  expect(ports[0]?.stats.wrongVlan).toBe(1)
})

test('an untagged frame of the greatest length cannot be tagged', async () => {
  const { cards, ports } = await network({}, { vlan: { trunk: [1] } })
  const [a, b] = cards
  const longest = ethernet({ payload: Array.from({ length: 65_535 - 14 }, (_, i) => i & 0xff) })
  a?.transmit(longest, longest.slice(0, 65_531))
  expect(b?.take().map(({ length }) => length)).toEqual([65_535])
  expect(ports[0]?.stats.wrongVlan).toBe(1)
})

test('offsets within a frame move with its tag', async () => {
  const offsets: number[][] = []
  const sw = openSwitch()
  const trunk = sw.port({ vlan: { trunk: [1] } })
  const look = ({ checksumStart, headers }: Frames): void =>
    void offsets.push([checksumStart[0] ?? 0, headers[0] ?? 0])
  const a = await new TestCard().plugInto(sw.port())
  const b = await new TestCard({ onFrames: look }).plugInto(trunk)
  await new TestCard({ onFrames: look }).plugInto(sw.port())
  const send = (frame: readonly number[], headers: number): void => {
    const batch = batchOf(frame)
    batch.reset()
    batch.add({
      start: 0,
      length: frame.length,
      checksum: Checksum.BLANK,
      checksumStart: headers - 20,
      checksumOffset: 16,
      gso: Gso.TCPV4,
      gsoSize: 100,
      headers,
    })
    ;(frame[12] === 0x81 ? b : a).link.send(batch)
  }
  send(ethernet({ from: macOf(1) }), 54)
  send(ethernet({ from: macOf(2), tags: [1] }), 58)
  expect(offsets).toEqual([
    [38, 58],
    [34, 54],
    [34, 54],
  ])
})

test('many frames that get a tag keep their order and content', async () => {
  const { cards } = await network(
    { vlan: { access: 2 } },
    { vlan: { trunk: 'all' } },
    { vlan: { access: 2 } },
  )
  const [a, trunk, b] = cards
  const sent = Array.from({ length: 40 }, (_, i) =>
    ethernet({ payload: [i, ...Array.from({ length: 20_000 }, () => 7)] }),
  )
  a?.transmit(...sent)
  expect(b?.take().every((frame, i) => Buffer.from(frame).equals(Buffer.from(sent[i] ?? [])))).toBe(
    true,
  )
  const tagged = trunk?.take() ?? []
  expect(tagged.map((frame) => frame[18])).toEqual(sent.map((_, i) => i))
  expect(tagged.every((frame) => frame.length === 20_019 && frame[15] === 2)).toBe(true)
})
