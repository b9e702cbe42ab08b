/** The switch: learning, flooding, isolation, nested sends, offloads. */
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { Checksum, NO_OFFLOADS } from '@xenkit/frames'
import { type PortOptions, openCable, openSwitch } from '../../src/index.ts'
import { BROADCAST, batchOf, ethernet, ipv4, macOf, udp } from '../support/frames.ts'
import { network } from '../support/network.ts'
import { TestCard } from '../support/test-card.ts'

beforeEach(() => {
  vi.useFakeTimers({ toFake: ['performance'] })
})
afterEach(() => {
  vi.useRealTimers()
})

test('an unknown address is flooded, a known one goes to its port alone', async () => {
  const { cards } = await network({}, {}, {})
  const [a, b, c] = cards
  const there = ethernet({ from: macOf(1), to: macOf(2) })
  a?.transmit(there)
  expect([a?.take(), b?.take(), c?.take()]).toEqual([[], [there], [there]])
  const back = ethernet({ from: macOf(2), to: macOf(1) })
  b?.transmit(back)
  a?.transmit(there, ethernet({ from: macOf(1) }))
  expect(a?.take()).toEqual([back])
  expect(b?.take()).toEqual([there, ethernet({ from: macOf(1) })])
  expect(c?.take()).toEqual([ethernet({ from: macOf(1) })])
})

test('as a link the switch gives each card a port, and removes it with the card', async () => {
  await using sw = openSwitch()
  const [a, b] = [new TestCard(), new TestCard({ mac: macOf(2) })]
  await a.plugInto(sw)
  await b.plugInto(sw.ports({ macs: 'card' }))
  a.transmit(ethernet({ from: macOf(1) }))
  b.transmit(ethernet({ from: macOf(3) }), ethernet({ from: macOf(2) }))
  expect([a.take(), b.take()]).toEqual([
    [ethernet({ from: macOf(2) })],
    [ethernet({ from: macOf(1) })],
  ])
  await b.link.close()
  expect(b.carriers).toEqual([true, false])
  // The port has gone, and with it the claim to the address.
  const c = await new TestCard().plugInto(sw)
  c.transmit(ethernet({ from: macOf(2) }))
  expect([a.take(), b.take()]).toEqual([[ethernet({ from: macOf(2) })], []])
  await expect(new TestCard().plugInto(sw.ports({ macs: 'card' }))).rejects.toThrow(RangeError)
  c.transmit(ethernet({ from: macOf(2) }))
  expect(a.take()).toHaveLength(1)
})

test('a card that throws fails, and neither its sender nor other cards lose a frame', async () => {
  await using sw = openSwitch()
  const lost = new Error('the layer over this card is broken')
  let isBroken = true
  const onFrames = (): void => {
    if (isBroken) throw lost
  }
  const [a, b, c] = [new TestCard(), new TestCard({ onFrames }), new TestCard()]
  for (const card of [a, b, c]) await card.plugInto(sw)
  const [first, second] = [1, 2].map((payload) => ethernet({ payload: [payload] }))
  // The sender uses its memory again.
  const frames = batchOf(first ?? [])
  a.link.send(frames)
  isBroken = false
  frames.memory.set(second ?? [])
  a.link.send(frames)
  expect([a.failures, b.failures, c.failures]).toEqual([[], [lost], []])
  expect([b.take(), c.take()]).toEqual([[second], [first, second]])
})

test('a frame to an address at its own port goes nowhere', async () => {
  const { cards, ports } = await network({}, {})
  const [a, b] = cards
  a?.transmit(ethernet({ from: macOf(1) }), ethernet({ from: macOf(2) }))
  b?.take()
  a?.transmit(ethernet({ from: macOf(1), to: macOf(2) }))
  expect([a?.take(), b?.take()]).toEqual([[], []])
  expect(ports[0]?.stats).toMatchObject({ received: 3, sent: 0 })
})

test('an address ages, and an aged one is flooded again', async () => {
  const { cards } = await network({}, {}, {})
  const [a, b, c] = cards
  b?.transmit(ethernet({ from: macOf(2) }))
  c?.take()
  const there = ethernet({ from: macOf(1), to: macOf(2) })
  vi.advanceTimersByTime(1000)
  a?.transmit(there)
  expect(c?.take()).toEqual([])
  vi.advanceTimersByTime(1)
  a?.transmit(there)
  expect(c?.take()).toEqual([there])
  expect(b?.take()).toEqual([there, there])
})

test("a port's addresses are bounded, and don't displace those of others", async () => {
  const { cards } = await network({ maxAddresses: 3 }, {}, {})
  const [a, b, c] = cards
  b?.transmit(ethernet({ from: macOf(2) }))
  a?.transmit(...Array.from({ length: 200 }, (_, i) => ethernet({ from: macOf(10 + (i % 240)) })))
  for (const card of cards) card.take()
  a?.transmit(ethernet({ from: macOf(10), to: macOf(2) }))
  expect([b?.take().length, c?.take().length]).toEqual([1, 0])
  c?.transmit(ethernet({ from: macOf(3), to: macOf(12) }))
  expect([a?.take().length, b?.take().length]).toEqual([1, 0])
  c?.transmit(ethernet({ from: macOf(3), to: macOf(13) }))
  expect([a?.take().length, b?.take().length]).toEqual([1, 1])
  // So does an address that moves away.
  c?.transmit(ethernet({ from: macOf(10) }))
  a?.transmit(ethernet({ from: macOf(14) }))
  for (const card of cards) card.take()
  b?.transmit(ethernet({ from: macOf(2), to: macOf(14) }))
  expect([a?.take().length, c?.take().length]).toEqual([1, 0])
  // Old addresses make room.
  vi.advanceTimersByTime(1001)
  a?.transmit(ethernet({ from: macOf(13) }))
  for (const card of cards) card.take()
  c?.transmit(ethernet({ from: macOf(3), to: macOf(13) }))
  expect([a?.take().length, b?.take().length]).toEqual([1, 0])
})

test('without a carrier a port gets nothing, and its addresses are forgotten', async () => {
  const { cards } = await network({}, {}, {})
  const [a, b, c] = cards
  b?.transmit(ethernet({ from: macOf(2) }))
  c?.take()
  b?.link.carrier?.(false)
  a?.transmit(ethernet({ to: macOf(2) }))
  expect([b?.take().length, c?.take().length]).toEqual([0, 1])
  b?.transmit(ethernet({ from: macOf(2) }))
  c?.take()
  a?.transmit(ethernet({ to: macOf(2) }))
  expect([b?.take().length, c?.take().length]).toEqual([0, 0])
  await b?.link.close()
  b?.transmit(ethernet({ from: macOf(2) }))
  expect(c?.take()).toEqual([])
})

test('isolated ports reach only ports that are not isolated', async () => {
  const { cards, ports } = await network({ isolated: true }, { isolated: true }, {})
  const [a, b, c] = cards
  a?.transmit(ethernet({ from: macOf(1) }))
  c?.transmit(ethernet({ from: macOf(3) }))
  expect([a?.take().length, b?.take().length, c?.take().length]).toEqual([1, 1, 1])
  b?.transmit(ethernet({ from: macOf(2), to: macOf(1) }))
  expect([a?.take(), c?.take()]).toEqual([[], []])
  expect(ports[1]?.stats.isolated).toBe(1)
  ports[0]?.change({})
  a?.transmit(ethernet({ from: macOf(1) }))
  b?.transmit(ethernet({ from: macOf(2), to: macOf(1) }))
  expect(a?.take()).toHaveLength(1)
})

test('reserved and group addresses go nowhere', async () => {
  const { cards, ports } = await network({}, {})
  const [a, b] = cards
  a?.transmit(
    ethernet({ to: '01:80:c2:00:00:01' }),
    ethernet({ from: BROADCAST }),
    ethernet({ from: '00:00:00:00:00:00' }),
  )
  expect(b?.take()).toEqual([])
  expect(ports[0]?.stats.invalid).toBe(3)
  a?.transmit(ethernet({ to: '01:80:c2:00:00:10' }))
  expect(b?.take()).toHaveLength(1)
})

test('a flood stays in the memory of its sender', async () => {
  const seen: Uint8Array[] = []
  const sw = openSwitch()
  const a = await new TestCard().plugInto(sw.port())
  for (let i = 0; i < 2; i++) {
    await new TestCard({ onFrames: ({ memory }) => void seen.push(memory) }).plugInto(sw.port())
  }
  const batch = batchOf(ethernet({}), ethernet({}))
  a.link.send(batch)
  expect(seen).toEqual([batch.memory, batch.memory])
  expect(seen.every((memory) => memory === batch.memory)).toBe(true)
})

test('ports that answer from within a send get the right frames', async () => {
  const sw = openSwitch()
  const a = await new TestCard().plugInto(sw.port())
  const echo: TestCard = new TestCard({
    onFrames: (frames) => {
      for (let i = 0; i < frames.count; i++) {
        const [number = 0] = frames.bytes(i).subarray(14)
        echo.transmit(
          ethernet({ from: macOf(2), to: macOf(1), payload: [number] }),
          ethernet({ from: macOf(2), to: macOf(3), payload: [number + 100] }),
        )
      }
    },
  })
  await echo.plugInto(sw.port())
  const c = await new TestCard().plugInto(sw.port())
  a.transmit(ethernet({ from: macOf(1) }))
  c.transmit(ethernet({ from: macOf(3) }))
  for (const card of [a, c, echo]) card.take()
  const sent = [1, 2, 3].map((number) => ethernet({ from: macOf(1), payload: [number] }))
  a.transmit(...sent)
  expect(echo.take()).toEqual(sent)
  const numbers = (card: TestCard): (number | undefined)[] => card.take().map((it) => it[14])
  expect(numbers(a)).toEqual([1, 2, 3])
  // The answers overtake the flood, since the port of `c` was opened last.
  expect(numbers(c)).toEqual([101, 102, 103, 1, 2, 3])
})

test('ports that answer each other for ever are stopped', async () => {
  const sw = openSwitch()
  const ports = [sw.port(), sw.port()]
  const cards = ports.map((_, i) => {
    const card: TestCard = new TestCard({
      onFrames: () => card.transmit(ethernet({ from: macOf(i) })),
    })
    return card
  })
  await Promise.all(cards.map((card, i) => card.plugInto(ports[i] ?? sw.port())))
  cards[0]?.transmit(ethernet({ from: macOf(0) }))
  const nested = ports.map(({ stats }) => stats.nested)
  expect(nested.reduce((a, b) => a + b)).toBe(1)
  expect(cards.map((card) => card.take().length)).toEqual([4, 4])
})

test('a port whose card takes complete frames only gets them, the others as they were', async () => {
  const sw = openSwitch()
  const a = await new TestCard().plugInto(sw.port())
  const checksums: number[][] = []
  const onFrames = ({ checksum, count }: { checksum: Uint8Array; count: number }): void =>
    void checksums.push([...checksum.subarray(0, count)])
  const plain = await new TestCard({ offloads: NO_OFFLOADS, onFrames }).plugInto(sw.port())
  const able = await new TestCard({ onFrames }).plugInto(sw.port())
  const packet = ipv4({
    from: '10.0.0.1',
    to: '10.0.0.2',
    protocol: 17,
    // The field holds the sum of the pseudo-header: addresses, protocol and length.
    payload: udp(1, 2, [3, 4]).with(6, 0x14).with(7, 0x1e),
  })
  const frame = ethernet({ type: 0x0800, payload: packet })
  const batch = batchOf(frame)
  batch.reset()
  batch.add({
    start: 0,
    length: frame.length,
    checksum: Checksum.BLANK,
    checksumStart: 34,
    checksumOffset: 6,
  })
  a.link.send(batch)
  expect(checksums).toEqual([[Checksum.COMPLETE], [Checksum.BLANK]])
  expect(able.take()).toEqual([frame])
  const [completed = []] = plain.take()
  expect(completed.slice(0, 40)).toEqual(frame.slice(0, 40))
  expect(completed.slice(40, 42)).not.toEqual(frame.slice(40, 42))
  expect(completed.slice(42)).toEqual(frame.slice(42))
  expect([...batch.bytes(0)]).toEqual(frame)
})

test('an uplink joins the switch to another link', async () => {
  const sw = openSwitch()
  const [near, far] = openCable()
  const a = await new TestCard().plugInto(sw.port())
  const outside = await new TestCard().plugInto(far)
  const uplink = await sw.uplink(near, { vlan: { trunk: [1] } })
  expect(outside.carriers).toEqual([true])
  a.transmit(ethernet({ from: macOf(1) }))
  expect(outside.take()).toEqual([ethernet({ from: macOf(1), tags: [1] })])
  outside.transmit(ethernet({ from: macOf(9), to: macOf(1), tags: [1] }))
  expect(a.take()).toEqual([ethernet({ from: macOf(9), to: macOf(1) })])
  expect(uplink.stats).toMatchObject({ received: 1, sent: 1 })
  await sw.close()
  expect(outside.carriers.at(-1)).toBe(false)
  expect(a.carriers).toEqual([true, false])
})

test('an uplink that is lost is reported, and its port closed', async () => {
  const sw = openSwitch()
  const onFail = vi.fn<(error: unknown) => void>()
  let lose: ((error: unknown) => void) | undefined
  const close = vi.fn<() => void>()
  await sw.uplink(
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
  expect(close).toHaveBeenCalledOnce()
  await expect(
    sw.uplink({ plug: () => Promise.reject(new Error('no such device')) }),
  ).rejects.toThrow('no such device')
})

test('a port takes one card at a time, and none once closed', async () => {
  const sw = openSwitch()
  const port = sw.port()
  const a = await new TestCard().plugInto(port)
  expect(() => port.plug(new TestCard())).toThrow('in use by another card')
  await a.link.close()
  const b = await new TestCard().plugInto(port)
  expect(b.carriers).toEqual([true])
  await port.close()
  expect(b.carriers).toEqual([true, false])
  expect(() => port.plug(new TestCard())).toThrow('closed')
})

test.each([
  [{ vlan: { access: 0 } }, /"vlan.access"/],
  [{ vlan: { access: 4095 } }, /"vlan.access"/],
  [{ vlan: { trunk: [1, 5000] } }, /"vlan.trunk"/],
  [{ vlan: { trunk: [], native: 1.5 } }, /"vlan.native"/],
  [{ maxAddresses: 0 }, /"maxAddresses"/],
  [{ macs: ['00:16:3e:00:00'] }, /MAC address/],
  [{ ips: ['10.0.0.1/33'] }, /IP address/],
  [{ ips: ['example.org'] }, /IP address/],
] satisfies [PortOptions, RegExp][])('a port with %j is refused', (options, message) => {
  const sw = openSwitch()
  expect(() => sw.port(options)).toThrow(message)
  const port = sw.port({ isolated: true })
  expect(() => port.change(options)).toThrow(message)
})
