/**
 * Features about what a card can be plugged into. See lab/dom0/vif/main.ts for the links' names.
 */
import { deepStrictEqual, match, ok, strictEqual } from 'node:assert'
import type { Dom0 } from '../../src/dom0/dom0.ts'
import type { Guest } from '../../src/guest/guest.ts'
import { linked, type Rig, type Row, withCard } from './rig.ts'
import { ping, PORT, tcp } from './traffic.ts'

/** dom0's address on the switch's uplink. */
const DOM0 = '10.1.0.1'

/** Whether the guest gets no answer to pings. */
async function isSilent(guest: Guest, host: string, from = ''): Promise<void> {
  const { stdout } = await guest.attempt(`ping -c 2 -i 0.2 -W 1 ${from} ${host} | grep transmitted`)
  match(stdout, / 0 packets received/)
}

/** @param other rig of a second guest */
export async function links(row: Row, rig: Rig, other: Rig): Promise<void> {
  const { dom0, guest, stats } = rig
  /** Attaches a card of each guest, and runs `work`. */
  const withBoth = (
    [mine, others]: readonly [string, string],
    network: string,
    work: (name: string, otherName: string) => Promise<string>,
  ): Promise<string> =>
    withCard(rig, { card: linked(10, mine), address: `${network}.2/24` }, (name) =>
      withCard(other, { card: linked(11, others), address: `${network}.3/24` }, (otherName) =>
        work(name, otherName),
      ),
    )

  await row('switch: two guests', () =>
    withBoth(['switch-a', 'switch-b'], '10.1.0', async () => {
      await other.guest.run(`(net-bench serve ${PORT} > /dev/null 2>&1 &)`)
      const said = `${await ping(guest, '10.1.0.3')}; ${await tcp(guest, '10.1.0.3', 4)}`
      await other.guest.run('killall net-bench || true')
      return `to Linux 5.10: ${said}; both reach dom0: ${await ping(guest, DOM0)}`
    }),
  )
  await row('switch: isolation', () =>
    withBoth(['isolated-a', 'isolated-b'], '10.1.0', async () => {
      await ping(guest, DOM0)
      await ping(other.guest, DOM0)
      await isSilent(guest, '10.1.0.3')
      return "both guests reach dom0, and don't reach each other"
    }),
  )
  await row('switch: spoofed frames', () =>
    withCard(
      rig,
      { card: `${linked(12, 'guarded')},ip=10.1.0.5`, address: '10.1.0.5/24' },
      async (name) => {
        await ping(guest, DOM0)
        await guest.run(`ip addr add 10.1.0.6/24 dev ${name}`)
        await isSilent(guest, DOM0, '-I 10.1.0.6')
        const address = (last: string): Promise<string> =>
          guest.run(
            `ip link set ${name} down; ip link set ${name} address 00:16:3e:00:00:${last} up`,
          )
        const first = Number((await stats())['guarded']?.['spoofed'])
        ok(first > 0, 'the wrong IP address was counted')
        await address('77')
        await isSilent(guest, DOM0)
        const second = Number((await stats())['guarded']?.['spoofed'])
        ok(second > first, 'the wrong MAC address was counted')
        await address('12')
        return `frames from another IP or MAC address than the toolstack's: ${second} dropped; then ${await ping(guest, DOM0)}`
      },
    ),
  )
  await row('switch: VLAN', () =>
    withBoth(['trunk', 'vlan7'], '10.1.7', async (name) => {
      await isSilent(guest, '10.1.7.3')
      await guest.run(
        `modprobe 8021q; ip addr flush dev ${name}; vconfig add ${name} 7; ip addr add 10.1.7.2/24 dev ${name}.7; ip link set ${name}.7 up`,
      )
      await other.guest.run(`(net-bench serve ${PORT} > /dev/null 2>&1 &)`)
      const said = `${await ping(guest, '10.1.7.3')}; ${await tcp(guest, '10.1.7.3', 2)}`
      await other.guest.run('killall net-bench || true')
      return `VLAN 7 tagged at one guest, untagged at the other: ${said}`
    }),
  )
  await row('capture', async () => {
    await withCard(rig, { card: linked(13, 'capture'), address: '10.1.0.2/24' }, async () => {
      await ping(guest, DOM0)
      await tcp(guest, DOM0, 1)
      return ''
    })
    return captured(dom0)
  })
  await row('mirror', () =>
    withCard(rig, { card: linked(14, 'mirrored'), address: '10.1.0.2/24' }, async () => {
      const watch = dom0.spawn('exec tcpdump -Z root -nn -l -i tap-mirror -c 4 icmp')
      await watch.output(/listening on/)
      await ping(guest, DOM0)
      const { stdout } = await watch.ended
      const seen = ['echo request', 'echo reply'].map((what) => stdout.split(what).length - 1)
      deepStrictEqual(seen, [2, 2])
      return 'a second TAP device sees the requests and the replies'
    }),
  )
  await row('filter', () =>
    withCard(rig, { card: linked(15, 'filtered'), address: '10.1.0.2/24' }, async () => {
      await isSilent(guest, DOM0)
      return `a function drops ICMP: no ping, but TCP: ${await tcp(guest, DOM0, 1)}`
    }),
  )
}

/** Reads the capture of a ping and a transfer of 1 MiB each way, by tshark. */
async function captured(dom0: Dom0): Promise<string> {
  const fields = async (filter: string, ...names: readonly string[]): Promise<string[][]> => {
    const said = await dom0.run(
      `tshark -r capture.pcapng -Y '${filter}' -T fields ${names.map((name) => `-e ${name}`).join(' ')}`,
      120,
    )
    return said.split('\n').map((line) => line.split('\t'))
  }
  const pings = await fields(
    'icmp',
    'frame.interface_name',
    'frame.packet_flags_direction',
    'icmp.type',
  )
  // Requests (8) came in from the guest (1), replies (0) went out to it (2).
  deepStrictEqual(pings.map(([, direction, type]) => `${Number(direction)} ${type}`).toSorted(), [
    '1 8',
    '1 8',
    '1 8',
    '2 0',
    '2 0',
    '2 0',
  ])
  match(pings[0]?.[0] ?? '', /^vif\d+\.\d$/)
  const segments = await fields('tcp.len > 0', 'tcp.len')
  const bytes = segments.reduce((sum, [length]) => sum + Number(length), 0)
  ok(bytes >= 2 << 20, `${bytes} bytes of TCP`)
  return `tshark reads ${pings.length} frames of pings on ${pings[0]?.[0]} with directions, and ${bytes} bytes in ${segments.length} segments of TCP`
}

/** Plugs a card into passt, which is on a network that only dom0 is connected to. */
export async function passt(row: Row, rig: Rig): Promise<void> {
  const { dom0, guest } = rig
  await row('passt', async () => {
    await dom0.run(
      `ip netns add world; ip link add uplink type veth peer name world netns world
       ip addr add 10.9.0.2/24 dev uplink; ip link set uplink up; ip route add default via 10.9.0.1
       ip netns exec world sh -c 'ip addr add 10.9.0.1/24 dev world; ip addr add 10.9.0.3/24 dev world; ip link set world up; ip link set lo up'
       echo nameserver 10.9.0.3 > /etc/resolv.conf`,
    )
    const world = dom0.spawn('exec ip netns exec world world')
    await world.output(/ready/)
    const devid = Number(
      await dom0.run(
        `xl network-attach ${guest.domid} ${linked(16, 'passt').replaceAll(',', ' ')}; xl network-list ${guest.domid} | awk 'END { print $1 }'`,
      ),
    )
    const name = `eth${devid}`
    await guest.run(
      `printf '#!/bin/sh\\n[ "$1" = bound ] || exit 0\\nip addr add $ip/24 dev $interface; ip route add default via $router; echo "nameserver $dns" > /etc/resolv.conf; echo "$ip via $router" > /tmp/lease\\n' > /tmp/dhcp; chmod +x /tmp/dhcp; until [ -e /sys/class/net/${name} ]; do usleep 20000; done; ip link set ${name} up; udhcpc -i ${name} -n -q -t 10 -T 1 -s /tmp/dhcp 2>&1`,
    )
    const lease = await guest.run('cat /tmp/lease')
    const found = await guest.run(
      "nslookup server.example 10.9.0.3 | awk '/^Address/ { at = $NF } END { print at }'",
    )
    strictEqual(found, '10.9.0.3')
    const fetched = await guest.run(`wget -q -O - http://${found}:8000/ | sha256sum`)
    strictEqual(
      fetched,
      await dom0.run('ip netns exec world wget -q -O - http://10.9.0.3:8000/ | sha256sum'),
    )
    await guest.run(`ip route del default`)
    await dom0.run(`xl network-detach ${guest.domid} ${devid}`)
    await guest.cardGone(name)
    await world.stop()
    await dom0.run('ip link del uplink; ip netns del world')
    return `DHCP: ${lease}; the guest resolves server.example and fetches 1 MiB by HTTP, sha256 agrees`
  })
}
