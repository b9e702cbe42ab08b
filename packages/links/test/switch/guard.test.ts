/** A switch's port drops what comes from addresses that the toolstack doesn't name. */
import { expect, test } from 'vitest'
import { type PortOptions, openSwitch } from '../../src/index.ts'
import { type Ip, arp, ethernet, ipv4, ipv6, mac, macOf, udp, word } from '../support/frames.ts'
import { TestCard } from '../support/test-card.ts'

const ME = macOf(1)
const OTHER = macOf(2)
const IP6 = '2001:db8:0:0:0:0:0:5'
/** The link-local address that belongs to ME. */
const LOCAL = 'fe80:0:0:0:216:3eff:fe00:1'
const OTHER_LOCAL = 'fe80:0:0:0:216:3eff:fe00:2'
const NOBODY = '0:0:0:0:0:0:0:0'
const ALL_NODES = 'ff02:0:0:0:0:0:0:1'

/** Which of these frames a port with these options lets through. */
async function passed(options: PortOptions, ...frames: readonly number[][]): Promise<boolean[]> {
  const sw = openSwitch()
  const port = sw.port(options)
  const guest = await new TestCard({ mac: ME }).plugInto(port)
  const other = await new TestCard().plugInto(sw.port({ vlan: { trunk: 'all', native: 1 } }))
  const results = frames.map((frame) => {
    guest.transmit(frame)
    return other.take().length === 1
  })
  expect(port.stats.spoofed).toBe(results.filter((it) => !it).length)
  return results
}

const v4 = (o: Partial<Ip>, from = ME, tags: readonly number[] = []): number[] =>
  ethernet({
    from,
    tags,
    type: 0x0800,
    payload: ipv4({ from: '10.0.0.1', to: '10.0.0.9', protocol: 1, payload: [1], ...o }),
  })

const v6 = (o: Partial<Ip>): number[] =>
  ethernet({
    from: ME,
    type: 0x86dd,
    payload: ipv6({ from: IP6, to: ALL_NODES, protocol: 59, payload: [], ...o }),
  })

const arpFrame = (o: Partial<Parameters<typeof arp>[0]>, from = ME): number[] =>
  ethernet({ from, type: 0x0806, payload: arp({ operation: 1, mac: ME, ip: '10.0.0.1', ...o }) })

/** An ND message: its type, what precedes its options, and an option with an address. */
const nd = (type: number, body: readonly number[], option?: [number, string]): number[] => [
  type,
  0,
  0,
  0,
  ...body,
  ...(option ? [option[0], 1, ...mac(option[1])] : []),
]
const ip6Bytes = (text: string): number[] =>
  text.split(':').flatMap((it) => word(Number(`0x${it}`)))
const target = (text: string): number[] => [0, 0, 0, 0, ...ip6Bytes(text)]
const [RS, RA, NS, NA] = [133, 134, 135, 136]
const icmp6 = (payload: readonly number[], from = IP6): number[] =>
  v6({ from, protocol: 58, payload })

test('a named MAC address is the only one to send from, and to tell in ARP and ND', async () => {
  const options: PortOptions = { macs: [ME] }
  expect(
    await passed(
      options,
      ethernet({ from: ME }),
      v4({ from: '10.9.9.9' }),
      arpFrame({ ip: '10.9.9.9' }),
      arpFrame({ operation: 2 }),
      icmp6(nd(NS, target(IP6), [1, ME]), OTHER_LOCAL),
      icmp6(nd(NA, target(OTHER_LOCAL), [2, ME])),
      icmp6(nd(RS, [0, 0, 0, 0])),
    ),
  ).toEqual([true, true, true, true, true, true, true])
  expect(
    await passed(
      options,
      ethernet({ from: OTHER }),
      arpFrame({ mac: OTHER }),
      arpFrame({ operation: 2, mac: OTHER }),
      icmp6(nd(NS, target(IP6), [1, OTHER])),
      icmp6(nd(NA, target(IP6), [2, OTHER])),
      icmp6(nd(RS, [0, 0, 0, 0], [1, OTHER])),
      icmp6(
        nd(
          RA,
          Array.from({ length: 12 }, () => 0),
          [1, OTHER],
        ),
      ),
    ),
  ).toEqual([false, false, false, false, false, false, false])
})

test('named IP addresses are the only ones to send from', async () => {
  const options: PortOptions = { macs: [ME], ips: ['10.0.0.1', '192.168.4.0/22', '2001:db8::5'] }
  expect(
    await passed(
      options,
      v4({}),
      v4({ from: '192.168.7.255' }),
      arpFrame({}),
      arpFrame({ operation: 2 }),
      v6({}),
      v6({ from: LOCAL }),
      icmp6(nd(NS, target(ALL_NODES), [1, ME]), LOCAL),
      icmp6(nd(NA, target(IP6), [2, ME])),
      icmp6(nd(NA, target(LOCAL), [2, ME]), LOCAL),
    ),
  ).toEqual([true, true, true, true, true, true, true, true, true])
  expect(
    await passed(
      options,
      v4({ from: '10.0.0.2' }),
      v4({ from: '192.168.8.0' }),
      v4({ from: '0.0.0.0' }),
      arpFrame({ ip: '10.0.0.2' }),
      arpFrame({ operation: 2, ip: '10.0.0.2' }),
      v6({ from: '2001:db8:0:0:0:0:0:6' }),
      v6({ from: OTHER_LOCAL }),
      icmp6(nd(NA, target('2001:db8:0:0:0:0:0:6'), [2, ME])),
      icmp6(nd(NA, target(OTHER_LOCAL), [2, ME]), LOCAL),
      v6({ from: NOBODY }),
    ),
  ).toEqual([false, false, false, false, false, false, false, false, false, false])
})

test('addresses of a version that has none named are dropped, and so is all but IP', async () => {
  expect(
    await passed({ ips: ['10.0.0.1'] }, v4({}), v6({}), ethernet({ type: 0x8847 }), v4({}, OTHER)),
  ).toEqual([true, false, false, true])
  expect(await passed({ ips: ['2001:db8::/32'] }, v4({}), arpFrame({}), v6({}))).toEqual([
    false,
    false,
    true,
  ])
  expect(await passed({ ips: [] }, v4({}), v6({}), arpFrame({}))).toEqual([false, false, false])
})

test('a guest without an address yet can get one', async () => {
  const dhcp = (from: number, to: number): number[] =>
    v4({ from: '0.0.0.0', to: '255.255.255.255', protocol: 17, payload: udp(from, to) })
  expect(
    await passed(
      { macs: [ME], ips: ['10.0.0.1', '2001:db8::5'] },
      dhcp(68, 67),
      arpFrame({ ip: '0.0.0.0', target: '10.0.0.1' }),
      icmp6(nd(NS, target(IP6)), NOBODY),
      icmp6(nd(NS, target(LOCAL)), NOBODY),
      icmp6(nd(RS, [0, 0, 0, 0]), NOBODY),
      icmp6([143, 0, 0, 0, 0, 0, 0, 0], NOBODY),
    ),
  ).toEqual([true, true, true, true, true, true])
  expect(
    await passed(
      { macs: [ME], ips: ['10.0.0.1', '2001:db8::5'] },
      dhcp(67, 68),
      arpFrame({ ip: '0.0.0.0', target: '10.0.0.2' }),
      arpFrame({ operation: 2, ip: '0.0.0.0', target: '10.0.0.1' }),
      icmp6(nd(NS, target(OTHER_LOCAL)), NOBODY),
      icmp6(nd(NA, target(IP6)), NOBODY),
      icmp6([128, 0, 0, 0, 0, 0, 0, 0], NOBODY),
    ),
  ).toEqual([false, false, false, false, false, false])
  // Without an IPv4 address to be given, there is nothing to ask for.
  expect(await passed({ ips: ['2001:db8::5'] }, dhcp(68, 67))).toEqual([false])
  const solicitation = icmp6(nd(RS, [0, 0, 0, 0]), NOBODY)
  expect(await passed({ ips: ['10.0.0.1'] }, solicitation)).toEqual([false])
})

test('nothing hides from the check: tags, extension headers, fragments, lies', async () => {
  const spoofed = nd(NA, target(IP6), [2, OTHER])
  const behind = (...headers: number[][]): number[] => [...headers.flat(), ...spoofed]
  const options: PortOptions = { macs: [ME], vlan: { trunk: 'all', native: 1 } }
  const hopByHop = [60, 0, 1, 4, 0, 0, 0, 0]
  const destination = [58, 0, 1, 4, 0, 0, 0, 0]
  const fragment = (next: number, offset: number, more: number): number[] => [
    next,
    0,
    ...word((offset << 3) | more),
    0,
    0,
    0,
    7,
  ]
  const hidden = [
    v6({ protocol: 0, payload: behind(hopByHop, destination) }),
    v6({ protocol: 44, payload: behind(fragment(58, 0, 0)) }),
    v6({ protocol: 44, payload: [...fragment(58, 0, 1), ...spoofed.slice(0, 24)] }),
    // The option's length is 0, the option ends after the packet, the message ends in its middle.
    v6({ protocol: 58, payload: [...spoofed.slice(0, 24), 2, 0, 0, 0, 0, 0, 0, 0] }),
    v6({ protocol: 58, payload: spoofed.slice(0, 30) }),
    v6({ protocol: 58, payload: [...spoofed.slice(0, 24), 2, 200, ...mac(ME)] }),
    v6({ protocol: 58, payload: spoofed.slice(0, 20) }),
    // The extension header ends after the packet.
    v6({ protocol: 0, payload: [58, 200, 0, 0, 0, 0, 0, 0, ...spoofed] }),
    ethernet({
      from: ME,
      tags: [3, 4],
      type: 0x0806,
      payload: arp({ operation: 1, mac: OTHER, ip: '10.0.0.1' }),
    }),
    // ARP of another hardware or address length, and one that ends in its middle.
    arpFrame({}).with(15, 6),
    arpFrame({}).with(18, 8),
    arpFrame({}).slice(0, 41),
    ethernet({ from: ME, tags: Array.from({ length: 9 }, () => 5), type: 0x0806 }),
  ]
  expect(await passed(options, ...hidden)).toEqual(hidden.map(() => false))
  const mine = nd(NA, target(IP6), [2, ME])
  expect(
    await passed(
      options,
      v6({ protocol: 0, payload: [...hopByHop, ...destination, ...mine] }),
      v6({ protocol: 44, payload: [...fragment(58, 5, 0), 1, 2, 3] }),
    ),
  ).toEqual([true, true])
})

test('on a port with IP addresses, headers that lie are dropped', async () => {
  const ips = ['10.0.0.1', '2001:db8::5']
  const lies = [
    v4({}).with(14, 0x44),
    v4({}).with(14, 0x65),
    v4({}).with(17, 255),
    v4({}).slice(0, 33),
    v6({}).with(14, 0x40),
    v6({}).slice(0, 53),
  ]
  expect(await passed({ ips }, ...lies)).toEqual(lies.map(() => false))
})

test("a port's own addresses can't be taken by another, even while it is silent", async () => {
  const sw = openSwitch()
  const owner = await new TestCard().plugInto(sw.port({ macs: [ME] }))
  const thief = sw.port()
  const guest = await new TestCard().plugInto(thief)
  const elsewhere = sw.port({ vlan: { access: 2 } })
  const far = await new TestCard().plugInto(elsewhere)
  guest.transmit(ethernet({ from: ME }))
  far.transmit(ethernet({ from: ME }))
  expect(owner.take()).toEqual([])
  expect([thief.stats.spoofed, elsewhere.stats.spoofed]).toEqual([1, 0])
  // A guest that moves is named at both ports until the old one is closed.
  thief.change({ macs: [ME] })
  guest.transmit(ethernet({ from: ME }))
  expect(owner.take()).toHaveLength(1)
  thief.change({})
  guest.transmit(ethernet({ from: ME }))
  expect(thief.stats.spoofed).toBe(2)
})

test("the card's own address is the toolstack's, and changes with the card", async () => {
  const sw = openSwitch()
  const port = sw.port({ macs: 'card' })
  expect(() => port.plug(new TestCard({ name: 'vif7.0' }))).toThrow(/no MAC .*"vif7.0"/)
  const first = await new TestCard({ mac: ME }).plugInto(port)
  first.transmit(ethernet({ from: OTHER }))
  expect(port.stats.spoofed).toBe(1)
  await first.link.close()
  const second = await new TestCard({ mac: OTHER }).plugInto(port)
  second.transmit(ethernet({ from: OTHER }), ethernet({ from: ME }))
  expect(port.stats).toMatchObject({ received: 3, spoofed: 2 })
})
