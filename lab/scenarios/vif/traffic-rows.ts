/** Features about what a guest sends and receives. */
import { deepStrictEqual, match, ok } from 'node:assert'
import { dom0Addresses, type Rig, type Row } from './rig.ts'
import { ping, PORT, tcp, udp } from './traffic.ts'

/** Least bytes of a frame that counts as a segment of 64 KiB: TCP fills most of them. */
const SEGMENT = 60_000

export async function traffic(row: Row, rig: Rig): Promise<void> {
  const { guest } = rig
  await row('ping', () => ping(guest, dom0Addresses.v4))
  await row('TCP', () => tcp(guest, dom0Addresses.v4))
  await row('UDP of all sizes', () => udp(guest, dom0Addresses.v4))
  await row('IPv6', async () => {
    await ping(guest, dom0Addresses.v6)
    return `${await tcp(guest, dom0Addresses.v6, 2)}; ${await udp(guest, dom0Addresses.v6)}`
  })
  await row('segments of 64 KiB', () => segments(rig))
  await row('checksums and segments off', () => withoutOffloads(rig))
}

/** Watches the card's TAP device for segments in both directions. */
async function segments({ dom0, guest, addresses, devid }: Rig): Promise<string> {
  const shown = await guest.run(
    `ethtool -k eth${devid} | grep -E '^(tcp-segmentation-offload|tx-checksumming|scatter-gather):' | tr '\\n' ' '`,
  )
  match(shown, /scatter-gather: on.*tcp-segmentation-offload: on/)
  const watch = (from: string) =>
    dom0.spawn(
      `exec tcpdump -Z root -nn -i vif${guest.domid}.${devid} -c 3 'greater ${SEGMENT} and src ${from}'`,
    )
  const watches = [watch(addresses.v4), watch(dom0Addresses.v4)]
  await Promise.all(watches.map((tcpdump) => tcpdump.output(/listening on/)))
  // TCP makes segments of a millisecond's data, which on a slow machine is little.
  const smallest = (count: number): string => `echo ${count} > /proc/sys/net/ipv4/tcp_min_tso_segs`
  await Promise.all([guest.run(smallest(44)), dom0.run(smallest(44))])
  await tcp(guest, dom0Addresses.v4, 8)
  await Promise.all([guest.run(smallest(2)), dom0.run(smallest(2))])
  const lengths = await Promise.all(
    watches.map(async ({ ended }) => / length (\d+)$/m.exec((await ended).stdout)?.[1]),
  )
  return `on the TAP device: ${lengths[0]} bytes of TCP from the guest, ${lengths[1]} to it; ethtool: ${shown.trim()}`
}

/** Switches off what the guest's kernel leaves to the card, in both directions. */
async function withoutOffloads({ dom0, guest, devid }: Rig): Promise<string> {
  const set = (how: 'on' | 'off'): Promise<string> =>
    guest.run(`ethtool -K eth${devid} tso ${how} gso ${how} gro ${how} sg ${how} tx ${how} 2>&1`)
  await set('off')
  const interfaceOf = `vif${guest.domid}.${devid}`
  await dom0.run(`ethtool -K ${interfaceOf} tso off gso off tx off 2>/dev/null || true`)
  const said = await tcp(guest, dom0Addresses.v4, 2)
  const datagrams = await udp(guest, dom0Addresses.v4)
  await dom0.run(`ethtool -K ${interfaceOf} tso on gso on tx on 2>/dev/null || true`)
  await set('on')
  return `ethtool -K tso off gso off sg off tx off: ${said}; ${datagrams}`
}

/** Features that the guest's first card doesn't have: each has a guest or a card of its own. */
export async function queues(row: Row, { dom0, server, stats }: Rig): Promise<void> {
  await row('several queues', async () => {
    const guest = await dom0.createGuest({
      name: 'queues',
      cards: ['mac=00:16:3e:00:00:20,bridge=br0'],
      vcpus: 2,
    })
    await guest.card('eth0', '10.0.0.20/24')
    const counts = await guest.run('ls -d /sys/class/net/eth0/queues/*-? | wc -l')
    const node = await dom0.run(
      `xenstore-read /local/domain/${guest.domid}/device/vif/0/multi-queue-num-queues`,
    )
    const served = (await stats())[`vif${guest.domid}.0`]?.['queues']
    deepStrictEqual([counts.trim(), node, served], ['4', '2', 2])
    // Several connections spread over the queues by their hashes.
    const streams = `for i in 1 2 3 4 5 6; do net-bench send ${dom0Addresses.v4} ${PORT} 1048576 > /tmp/sent.$i & done; wait; cat /tmp/sent.* | grep -c checksum`
    deepStrictEqual((await guest.run(streams, 120)).trim(), '6')
    const interrupts = await guest.run("grep -E 'vif0-q[01]-tx' /proc/interrupts")
    const used = interrupts
      .split('\n')
      .map((line) => line.trim().split(/\s+/).slice(1, 3).map(Number))
      .filter((perCpu) => perCpu.some((count) => count > 0)).length
    deepStrictEqual(used, 2, interrupts)
    await guest.destroy()
    await server.output(new RegExp(`vif${guest.domid}\\.0: removed`))
    return `2 vcpus: multi-queue-num-queues 2, 2 queues in /sys/class/net/eth0; six connections use both`
  })
}

export async function properties(row: Row, rig: Rig): Promise<void> {
  const { dom0, guest, devid } = rig
  await row('split event channels', async () => {
    const frontend = `/local/domain/${guest.domid}/device/vif/${devid}`
    const ports = await Promise.all(
      ['tx', 'rx'].map((ring) => dom0.run(`xenstore-read ${frontend}/event-channel-${ring}`)),
    )
    ok(ports[0] !== ports[1])
    const names = await guest.run(
      `grep -oE 'vif${devid}-q0-(tx|rx)' /proc/interrupts | tr '\\n' ' '`,
    )
    match(names, /tx.*rx|rx.*tx/)
    return `event-channel-tx ${ports[0]}, -rx ${ports[1]}; /proc/interrupts has ${names.trim()}`
  })
}
