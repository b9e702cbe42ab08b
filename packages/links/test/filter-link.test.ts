/** `filterLink`: what its function sees, and what passes. */
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { type Packet, filterLink, openCable } from '../src/index.ts'
import { batchOf, ethernet, ipv4, ipv6, macOf, udp } from './support/frames.ts'
import { TestCard } from './support/test-card.ts'

/** Two cards, the first of which is behind a filter. */
async function filtered(accepts: (packet: Packet) => boolean) {
  const [near, far] = openCable()
  const card = await new TestCard().plugInto(filterLink(near, accepts))
  const peer = await new TestCard().plugInto(far)
  return { card, peer }
}

const numbered = (number: number): number[] => ethernet({ payload: [number >> 8, number & 0xff] })

test('frames that are accepted pass in both directions, in order', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.array(fc.boolean(), { maxLength: 600 }), { maxLength: 4 }),
      fc.boolean(),
      async (batches, isFromCard) => {
        const flags = batches.flat()
        const { card, peer } = await filtered(
          ({ bytes }) => flags[((bytes[14] ?? 0) << 8) | (bytes[15] ?? 0)] === true,
        )
        const [from, to] = isFromCard ? [card, peer] : [peer, card]
        let number = 0
        for (const batch of batches) from.transmit(...batch.map(() => numbered(number++)))
        expect(to.take()).toEqual(flags.flatMap((passes, i) => (passes ? [numbered(i)] : [])))
      },
    ),
    { numRuns: 50 },
  )
})

test('a batch longer than those of the filter passes whole', async () => {
  const { card, peer } = await filtered(() => true)
  const frames = Array.from({ length: 600 }, (_, i) => numbered(i))
  card.transmit(...frames)
  expect(peer.take()).toEqual(frames)
})

test('frames stay in their memory', async () => {
  const [near, far] = openCable()
  const memories: Uint8Array[] = []
  const card = await new TestCard().plugInto(filterLink(near, () => true))
  await new TestCard({ onFrames: ({ memory }) => void memories.push(memory) }).plugInto(far)
  const batch = batchOf(numbered(1))
  card.link.send(batch)
  expect(memories[0]).toBe(batch.memory)
})

test('an end that answers from within a send gets and sends the right frames', async () => {
  const [near, far] = openCable()
  const answerOnce = (...answer: readonly number[][]): TestCard => {
    let answered = false
    const card: TestCard = new TestCard({
      onFrames: () => {
        if (answered) return
        answered = true
        card.transmit(...answer)
      },
    })
    return card
  }
  const card = answerOnce(numbered(4), numbered(5))
  const peer = answerOnce(numbered(6))
  await card.plugInto(filterLink(near, ({ bytes }) => bytes[15] !== 2))
  await peer.plugInto(far)
  card.transmit(numbered(1), numbered(2), numbered(3))
  expect(card.take()).toEqual([numbered(6)])
  // The peer keeps its frames once it has answered them.
  expect(peer.take()).toEqual([numbered(4), numbered(5), numbered(1), numbered(3)])
})

describe('a packet', () => {
  /** What the function sees of a frame. */
  async function seen<T>(frame: readonly number[], look: (packet: Packet) => T): Promise<T> {
    const results: T[] = []
    const { card } = await filtered((packet) => {
      results.push(look(packet))
      return false
    })
    // Another one first, as the object is reused.
    card.transmit(ethernet({ tags: [77], type: 0x0806 }), [...frame])
    const [, result] = results
    if (result === undefined) throw new Error('nothing was seen')
    return result
  }

  const all = (packet: Packet): unknown => ({
    direction: packet.direction,
    length: packet.length,
    macs: [packet.sourceMac, packet.destinationMac],
    etherType: packet.etherType,
    vlan: packet.vlan,
    ips: [packet.sourceIp, packet.destinationIp],
    protocol: packet.protocol,
    ports: [packet.sourcePort, packet.destinationPort],
    isWellFormed: packet.isWellFormed,
  })

  test('of UDP over IPv4 with a tag', async () => {
    const payload = ipv4({
      from: '10.0.0.1',
      to: '192.168.255.3',
      protocol: 17,
      payload: udp(68, 5353),
    })
    const frame = ethernet({ to: macOf(9), tags: [0xa00c], type: 0x0800, payload })
    expect(await seen(frame, all)).toEqual({
      direction: 'from-card',
      length: 46,
      macs: [macOf(1), macOf(9)],
      etherType: 0x0800,
      vlan: 12,
      ips: ['10.0.0.1', '192.168.255.3'],
      protocol: 17,
      ports: [68, 5353],
      isWellFormed: true,
    })
  })

  test.each([
    ['0:0:0:0:0:0:0:0', '::'],
    ['fe80:0:0:0:0:0:0:1', 'fe80::1'],
    ['2001:db8:0:0:1:0:0:1', '2001:db8::1:0:0:1'],
    ['2001:0:0:1:0:0:0:1', '2001:0:0:1::1'],
    ['2001:db8:0:1:1:1:1:1', '2001:db8:0:1:1:1:1:1'],
    ['ff02:0:0:0:0:0:0:0', 'ff02::'],
    ['0:0:0:0:0:0:0:1', '::1'],
  ])('of IPv6 from %s', async (from, text) => {
    const payload = ipv6({ from, to: from, protocol: 6, payload: [] })
    const frame = ethernet({ type: 0x86dd, payload })
    expect(
      await seen(frame, ({ sourceIp, destinationIp, sourcePort }) => [
        sourceIp,
        destinationIp,
        sourcePort,
      ]),
    ).toEqual([text, text, undefined])
  })

  test('of no IP', async () => {
    expect(await seen(ethernet({ type: 0x0806 }), all)).toMatchObject({
      vlan: undefined,
      ips: [undefined, undefined],
      protocol: undefined,
      ports: [undefined, undefined],
      isWellFormed: true,
    })
  })

  test('whose headers lie', async () => {
    const payload = ipv4({ from: '1.2.3.4', to: '1.2.3.4', protocol: 6, payload: [0, 1, 0, 2] })
    expect(await seen(ethernet({ type: 0x0800, payload }), all)).toMatchObject({
      ips: ['1.2.3.4', '1.2.3.4'],
      ports: [undefined, undefined],
      isWellFormed: false,
    })
  })
})

test('a function that throws drops the frame, and its card fails', async () => {
  const error = new Error('mistake')
  const { card, peer } = await filtered(({ bytes }) => {
    if (bytes[15] === 2) throw error
    return true
  })
  card.transmit(numbered(1), numbered(2), numbered(3))
  expect(card.failures).toEqual([error])
  expect(peer.take()).toEqual([numbered(1), numbered(3)])
})
