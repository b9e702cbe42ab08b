/**
 * Shows every feature of the network backend with Linux's own netfront. For each one it prints what
 * was done and what the guest reports.
 */
import { deepStrictEqual, strictEqual } from 'node:assert'
import { holdings } from '../../src/dom0/holdings.ts'
import type { Guest } from '../../src/guest/guest.ts'
import { OLDEST, releases } from '../../src/image/debian.ts'
import type { Lab } from '../../src/scenario.ts'
import type { StackName } from '../../src/stack.ts'
import { type Feature, features, featuresOfOldest } from './features.ts'
import { links, passt } from './links.ts'
import { addV6, type Addresses, BRIDGE, bridged, dom0Addresses, type Rig } from './rig.ts'
import { cycles, life, lives, rate, toolstack } from './toolstack.ts'
import { properties, queues, traffic } from './traffic-rows.ts'
import { PORT } from './traffic.ts'

export const title =
  'a row for each feature of the network backend, witnessed by the netfront of a guest'
export const programs = {
  links: 'lab/dom0/vif/main.ts',
  single: 'lab/dom0/vif/single.ts',
  world: 'lab/dom0/vif/world.ts',
  xenkit: 'packages/xenkit/src/cli/main.ts',
}
export const stacks: readonly StackName[] = [
  'debian12-pv',
  'debian12-pvh',
  'debian13-pv',
  'debian13-pvh',
]

/** dom0's bridges, their addresses and their MTU. */
const bridges = [
  [BRIDGE, `${dom0Addresses.v4}/24`, 1500],
  ['br2', '10.2.0.1/24', 1500],
  ['br9000', '10.3.0.1/24', 9000],
] as const

export async function run(lab: Lab): Promise<void> {
  const dom0 = await lab.boot()
  await dom0.run(
    `modprobe -a bridge veth; ${bridges.map(([name, address, mtu]) => `ip link add ${name} type bridge; ip link set ${name} mtu ${mtu} up; ip addr add ${address} dev ${name}`).join('; ')}; ip addr add ${dom0Addresses.v6}/64 dev ${BRIDGE} nodad`,
  )
  dom0.spawn(`exec net-bench serve ${PORT}`)
  const server = dom0.spawn('exec links')
  const [, pid = ''] = await server.output(/^pid (\d+)$/m)
  await dom0.run(
    'ip addr add 10.1.0.1/24 dev tap-switch; ip link set tap-switch up; ip link set tap-mirror up',
  )
  const before = await holdings(dom0, pid)

  let asked = 0
  const rigOf = (guest: Guest, addresses: Addresses): Rig => ({
    dom0,
    guest,
    addresses,
    server,
    devid: 0,
    async stats() {
      server.signal('SIGUSR2')
      const [, json = ''] = await server.output(new RegExp(`^stats ${++asked} (.*)$`, 'm'))
      return JSON.parse(json)
    },
  })
  /** Boots a guest with a card on dom0's bridge. */
  const boot = (
    name: string,
    last: number,
    kernel: 'own' | 'oldest',
    linux: string,
  ): Promise<Rig> =>
    lab.check(`a guest boots with Linux ${linux}, and its card connects`, async () => {
      const guest = await dom0.createGuest({ name, kernel, cards: [bridged(last)] })
      const addresses = { v4: `10.0.0.${last}`, v6: `fd00::${last}` }
      await guest.card('eth0', `${addresses.v4}/24`)
      await addV6(guest, 'eth0', addresses.v6)
      return rigOf(guest, addresses)
    })

  const shown: string[] = []
  const row = async (what: string, work: () => Promise<string>): Promise<void> => {
    shown.push(what)
    await lab.row(what.padEnd(34), work)
  }
  const rig = await boot('guest', 2, 'own', releases[lab.stack.debian].linux)
  await traffic(row, rig)
  await properties(row, rig)
  await life(row, rig)
  await toolstack(row, rig)
  await cycles(row, rig)
  await rate(row, rig)

  const { linux } = releases[OLDEST]
  const onOldest = (feature: Feature): string => `${feature}, Linux ${linux}`
  const old = await boot('old', 3, 'oldest', linux)
  await links(row, rig, old)
  await passt(row, rig)
  const rowOfOldest = (feature: Feature, work: () => Promise<string>): Promise<void> =>
    row(onOldest(feature), work)
  await traffic(rowOfOldest, old)
  await life(rowOfOldest, old)
  await old.guest.destroy()
  await queues(row, rig)
  await lives(row, rig, { pid, before })
  await lab.check('every feature has its row', async () =>
    deepStrictEqual(shown.toSorted(), [...features, ...featuresOfOldest.map(onOldest)].toSorted()),
  )
  await lab.check('the backend ends in good order', async () =>
    strictEqual((await server.stop('SIGTERM')).status, 0),
  )
}
