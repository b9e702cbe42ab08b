/** Features about the ways to attach a card to a guest and to detach it. */
import { deepStrictEqual, match, ok, strictEqual } from 'node:assert'
import { holdings } from '../../src/dom0/holdings.ts'
import {
  addV6,
  attach,
  detach,
  dom0Addresses,
  linked,
  type Rig,
  type Row,
  withCard,
} from './rig.ts'
import { ping, PORT, tcp } from './traffic.ts'

const CYCLES = 6
/** Address of the second card that a row attaches, on a network of its own. */
const SECOND = '10.2.0.2/24'
const SECOND_DOM0 = '10.2.0.1'
const SECOND_CARD = 'mac=00:16:3e:00:00:05,bridge=br2'

export async function toolstack(row: Row, rig: Rig): Promise<void> {
  const { dom0, guest } = rig
  await row('MTU of 9000', () =>
    withCard(
      rig,
      {
        card: `${linked(4, 'br9000').replace(',script=/bin/true', '')},mtu=9000`,
        address: '10.3.0.2/24',
      },
      async (name, devid) => {
        await guest.run(`ip link set ${name} mtu 9000`)
        const fragments = (): Promise<string> =>
          guest.run("awk '/^Ip: [0-9]/ { print $19 }' /proc/net/snmp")
        const before = await fragments()
        const { sizes } = JSON.parse(
          await guest.run(`net-bench datagrams 10.3.0.1 ${PORT} 1400 8972 13`, 120),
        ) as { sizes: number }
        strictEqual(await fragments(), before, 'fragments created')
        const node = await dom0.run(
          `xenstore-read /local/domain/${guest.domid}/device/vif/${devid}/mtu`,
        )
        const tap = await dom0.run(`cat /sys/class/net/vif${guest.domid}.${devid}/mtu`)
        deepStrictEqual([node, tap], ['9000', '9000'])
        return `mtu=9000: ${sizes} sizes up to 8972 bytes without fragments; ${await tcp(guest, '10.3.0.1', 2)}`
      },
    ),
  )
  await row('vifname', () =>
    withCard(
      rig,
      { card: 'mac=00:16:3e:00:00:05,bridge=br2,vifname=of-guest', address: SECOND },
      async () => {
        const ports = await dom0.run('ls /sys/class/net/br2/brif')
        strictEqual(ports, 'of-guest')
        return `Xen's script gave the TAP device the name of-guest and added it to the bridge; ${await ping(guest, SECOND_DOM0)}`
      },
    ),
  )
  await row('xenkit net attach, list, detach', async () => {
    const attached = dom0.spawn(`exec xenkit net attach ${guest.domid} --bridge br2`)
    await guest.card('eth1', SECOND)
    const said = await ping(guest, SECOND_DOM0)
    const listed = (await dom0.run('xenkit net list')).split('\n').at(-1) ?? ''
    match(listed, /Connected +Connected/)
    const [, devid] = listed.trim().split(/ +/)
    await dom0.run(`xenkit net detach ${guest.domid} ${devid}`)
    strictEqual((await attached.ended).status, 0)
    await guest.cardGone('eth1')
    return `"${listed.trim().replace(/ +/g, ' ')}"; ${said}; detached`
  })
}

export async function rate(row: Row, rig: Rig): Promise<void> {
  const { dom0, guest, server } = rig
  await row('rate', () =>
    withCard(rig, { card: `${SECOND_CARD},rate=1Mb/s`, address: SECOND }, async (_, devid) => {
      /** Kilobytes per second of datagrams that arrive. */
      const send = async (): Promise<number> => {
        const said = await guest.run(`net-bench packets-out ${SECOND_DOM0} ${PORT} 4 1400`)
        const { arrived, seconds } = JSON.parse(said) as { arrived: number; seconds: number }
        return Math.round((arrived * 1442) / seconds / 1000)
      }
      const node = `/local/domain/0/backend/vif/${guest.domid}/${devid}/rate`
      const [asked, limited] = [await dom0.run(`xenstore-read ${node}`), await send()]
      // 125 kB/s, a burst of 131 kB, and 200 kB of the socket's buffer, which are sent later.
      ok(limited < 250, `${limited} kB/s`)
      await dom0.run(`xenstore-write ${node} 10000000,50000`)
      await server.output(new RegExp(`vif${guest.domid}\\.${devid}: changed`))
      const free = await send()
      ok(free > 2 * limited, `${free} kB/s after ${limited} kB/s`)
      return `rate=1Mb/s, which is the node "${asked}": ${limited} kB/s of datagrams, with a burst; ${free} kB/s after the node was changed`
    }),
  )
}

export async function life(row: Row, rig: Rig): Promise<void> {
  const { dom0, guest, addresses, devid } = rig
  await row('rebind', async () => {
    await guest.run(
      `echo vif-${devid} > /sys/bus/xen/drivers/vif/unbind; [ ! -e /sys/class/net/eth${devid} ]; echo vif-${devid} > /sys/bus/xen/drivers/vif/bind`,
    )
    await guest.card(`eth${devid}`, `${addresses.v4}/24`)
    await addV6(guest, `eth${devid}`, addresses.v6)
    return `the guest's driver unbound and bound again; ${await ping(guest, dom0Addresses.v4)}; ${await tcp(guest, dom0Addresses.v4, 2)}`
  })
  await row('xl network-attach, -detach', async () => {
    const said = await withCard(rig, { card: SECOND_CARD, address: SECOND }, async () =>
      tcp(guest, SECOND_DOM0, 2),
    )
    const nodes = await dom0.run(
      `(xenstore-ls -f /local/domain/0/backend/vif/${guest.domid}/1 2>/dev/null || true) | wc -l`,
    )
    strictEqual(nodes.trim(), '0')
    await dom0.run(`[ ! -e /sys/class/net/vif${guest.domid}.1 ]`)
    return `eth1 comes and goes, no node and no TAP device is left; ${said}`
  })
  await row('detach with traffic', async () => {
    const second = await attach(rig, SECOND_CARD)
    const name = `eth${second}`
    await guest.card(name, SECOND)
    await guest.run(
      `for way in out in; do (net-bench stream-$way ${SECOND_DOM0} ${PORT} 600 > /dev/null 2>&1 &) ; done; ${moves(name)}`,
    )
    await detach(rig, second)
    await guest.run('killall net-bench || true')
    return `while TCP streams flow both ways: ${name} is removed; the other card: ${await ping(guest, dom0Addresses.v4)}`
  })
}

export async function cycles(row: Row, rig: Rig): Promise<void> {
  const { dom0, guest } = rig
  await row('attach and detach, again and again', async () => {
    // A separate server process, so that nothing but these cycles changes the resources it holds.
    const server = dom0.spawn('echo "pid $$"; exec single')
    const [, pid = ''] = await server.output(/^pid (\d+)$/m)
    await server.output(/ready/)
    const before = await holdings(dom0, pid)
    for (let i = 0; i < CYCLES; i++) {
      await withCard(rig, { card: linked(6, 'single'), address: '10.4.0.2/24' }, () =>
        ping(guest, '10.4.0.1'),
      )
      await server.output(new RegExp(`^removed ${i + 1}$`, 'm'))
    }
    deepStrictEqual(await holdings(dom0, pid), before)
    strictEqual((await server.stop('SIGTERM')).status, 0)
    return `${CYCLES} times xl network-attach, ping, network-detach: event channels, grant mappings, files, interfaces and nodes as before`
  })
}

/** Shell command that waits until a megabyte has gone each of the ways through an interface. */
export const moves = (name: string, ways: readonly ('rx' | 'tx')[] = ['rx', 'tx']): string =>
  ways
    .map((way) => {
      const bytes = `$(cat /sys/class/net/${name}/statistics/${way}_bytes)`
      return `first=${bytes}; until [ ${bytes} -gt $((first + 1000000)) ]; do usleep 10000; done`
    })
    .join('; ')

/** A TCP connection that lasts longer than what happens to the guest meanwhile. */
const LONG = 24 << 20

export async function lives(
  row: Row,
  rig: Rig,
  o: { readonly pid: string; readonly before: Awaited<ReturnType<typeof holdings>> },
): Promise<void> {
  const { dom0, guest, server, devid } = rig
  let alive = guest
  await row('xl save, xl restore', async () => {
    await guest.run(
      `rm -f /tmp/sent /tmp/failed; (net-bench send ${dom0Addresses.v4} ${PORT} ${LONG} > /tmp/sent 2> /tmp/failed &) ; ${moves(`eth${devid}`, ['tx'])}`,
    )
    await dom0.run(`xl save ${guest.name} guest.save`, 180)
    alive = await dom0.restoreGuest(guest.name, 'guest.save')
    await dom0.run('rm guest.save')
    await alive.run(
      'until [ -s /tmp/sent ] || [ -s /tmp/failed ]; do usleep 100000; done; cat /tmp/failed',
      240,
    )
    const sent = JSON.parse(await alive.run('cat /tmp/sent')) as { bytes: number }
    strictEqual(sent.bytes, LONG)
    return `domain ${guest.domid} goes on as ${alive.domid}: its TCP connection survives, ${LONG >> 20} MiB arrive, checksums agree; ${await ping(alive, dom0Addresses.v4)}`
  })
  await row('crash with traffic', async () => {
    await alive.run(
      `for way in out in; do (net-bench stream-$way ${dom0Addresses.v4} ${PORT} 600 > /dev/null 2>&1 &) ; done; ${moves(`eth${devid}`)}`,
    )
    alive.crash()
    await server.output(new RegExp(`vif${alive.domid}\\.${devid}: removed`))
    await dom0.when('@releaseDomain', `! xl list ${alive.domid}`)
    await dom0.run('killall net-bench || true')
    deepStrictEqual(await holdings(dom0, o.pid), o.before)
    return 'a panic with TCP streams both ways: its card is removed, dom0 holds what it held before there was a guest'
  })
}
