/**
 * The network backend of dom0's kernel serves a guest. That shows that the checks of the guest's
 * traffic pass with it.
 */
import { PORT, ping, tcp, udp } from './vif/traffic.ts'
import type { Lab } from '../src/scenario.ts'

export const title = "a guest's network card, served by the kernel's netback"
export const programs = {}

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
  await row('ethtool', async () =>
    (
      await guest.run(
        "ethtool -k eth0 | grep -E '^(tx-checksumming|scatter-gather|tcp-seg|generic-seg|rx-gro)' ",
      )
    )
      .split('\n')
      .map((line) => line.trim())
      .join(', '),
  )
  await guest.destroy()
}
