/**
 * Runs our frontend against the network backend of dom0's kernel, and against ours: both must pass
 * the same checks. First the kernel's serves a guest, which shows that the checks of the scenario
 * `vif` pass with it.
 */
import { relay } from '../src/relay.ts'
import type { Lab } from '../src/scenario.ts'
import { PORT, ping, tcp, udp } from './vif/traffic.ts'

export const title =
  "the kernel's netback with a guest; openVif against it and serveVif, dom0 with itself"
export const programs = { netback: 'lab/dom0/netback/main.ts' }

const [DOM0, GUEST] = ['10.0.0.1', '10.0.0.2']

export async function run(lab: Lab): Promise<void> {
  const dom0 = await lab.boot()
  await lab.check('the kernel has its network backend, and a bridge', () =>
    dom0.run(
      `modprobe -a xen-netback bridge; ip link add xenbr0 type bridge; ip addr add ${DOM0}/24 dev xenbr0; ip link set xenbr0 up`,
    ),
  )
  dom0.spawn(`exec net-bench serve ${PORT}`)
  const guest = await lab.check("a guest boots with a card, on the bridge by Xen's script", () =>
    dom0.createGuest({ name: 'guest', cards: ['mac=00:16:3e:00:00:01,bridge=xenbr0'] }),
  )
  await lab.check('its card connects', () => guest.card('eth0', `${GUEST}/24`))
  const row = (what: string, work: () => Promise<string>): Promise<void> =>
    lab.row(`netback, guest: ${what}`.padEnd(26), work)
  await row('ping', () => ping(guest, DOM0))
  await row('TCP', () => tcp(guest, DOM0))
  await row('UDP', () => udp(guest, DOM0))
  await guest.destroy()
  // openVif shares all its pages by gntalloc, whose default limit is 1024 for the whole domain.
  // netback offers as many queues as there are processors: one.
  await dom0.run(
    'echo 8192 > /sys/module/xen_gntalloc/parameters/limit; echo 2 > /sys/module/xen_netback/parameters/max_queues',
  )
  await relay(lab, 'netback kernel', dom0.attempt('netback kernel', 400))
  // Unload netback first, because it would serve the same cards as our backend.
  await lab.check('its cards are closed, so it can be unloaded', () =>
    dom0.run('modprobe -r xen-netback'),
  )
  await relay(lab, 'netback xenkit', dom0.attempt('netback xenkit', 400))
}
