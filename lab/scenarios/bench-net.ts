/**
 * Compares our network card with the kernel's netback and QEMU's xen_nic. docs/bench/lab-net.md
 * says what is compared, and why that is fair.
 */
import { cpuTime, idleTime } from '../src/dom0/cpu-time.ts'
import type { Dom0 } from '../src/dom0/dom0.ts'
import { type Figure, type Gate, short } from '../src/figure.ts'
import type { Guest } from '../src/guest/guest.ts'
import { median } from '../src/median.ts'
import { ratios, takeTurns } from '../src/rounds.ts'
import type { Lab } from '../src/scenario.ts'
import type { StackName } from '../src/stack.ts'
import { PORT } from './vif/traffic.ts'

export const title =
  "our network card against the kernel's netback and QEMU's xen_nic, in virtual time"
export const programs = { ours: 'lab/dom0/bench-net/main.ts' }
export const stacks: readonly StackName[] = ['debian13-pv']
export const picture = 'lab-net'

const ROUNDS = 3
/** Virtual seconds that one measurement of one card takes: ten or more real ones on a busy host. */
const SECONDS = 0.25
/** V8 compiles the code of our card while it serves, on threads that share the only processor. */
const WARM_UP_SECONDS = 1
/** Share of netback's rate that TCP must reach. */
const LEAST_SHARE = 0.5

/**
 * The contestants, and their cards' interfaces in the guest. Each has its own bridge and network.
 */
const cards = { netback: 'eth0', ours: 'eth1', qemu: 'eth2' } as const
type Name = keyof typeof cards
const names: readonly Name[] = ['netback', 'ours', 'qemu']
const bridge = (name: Name): string => `br-${name}`
const address = (name: Name, host: number): string => `10.0.${names.indexOf(name)}.${host}`
const xlCard = (name: Name): string =>
  `mac=00:16:3e:00:00:0${names.indexOf(name)},bridge=${bridge(name)}`

/** What net-bench prints. */
interface Measured {
  readonly bytes?: number
  readonly round_trips?: number
  readonly arrived?: number
  readonly seconds: number
}

interface Load {
  readonly name: string
  /** Arguments of net-bench before and after the time. */
  readonly operation: string
  readonly argument?: string
  readonly unit: string
  /** How much was moved, in units whose rate per second is shown. */
  readonly amount: (measured: Measured) => number
  /** The unit of domain 0's time, and how many of it a unit of `amount` has. */
  readonly per: { readonly name: string; readonly times: number }
  /** Share of netback's rate that is demanded. */
  readonly share?: number
}

const MBIT = 1e6 / 8
const tcp = {
  unit: 'Mbit/s',
  amount: ({ bytes = 0 }: Measured) => bytes / MBIT,
  per: { name: 'MiB', times: MBIT / (1 << 20) },
  share: LEAST_SHARE,
}
const packets = {
  argument: '18',
  unit: 'packets/s',
  amount: ({ arrived = 0 }: Measured) => arrived,
  per: { name: 'packet', times: 1 },
}
const loads: readonly Load[] = [
  { name: 'TCP from the guest', operation: 'stream-out', ...tcp },
  { name: 'TCP to the guest', operation: 'stream-in', ...tcp },
  {
    name: 'round trips',
    operation: 'round-trips',
    unit: 'round trips/s',
    amount: ({ round_trips = 0 }) => round_trips,
    per: { name: 'round trip', times: 1 },
  },
  { name: '60-byte packets from the guest', operation: 'packets-out', ...packets },
  { name: '60-byte packets to the guest', operation: 'packets-in', ...packets },
]

/** Result of measuring one card once. */
interface Turn {
  readonly rate: number
  /** Domain 0's processor time per unit, in microseconds. */
  readonly cpu: number
}

export async function run({ boot, check, figures, note }: Lab): Promise<void> {
  const dom0 = await boot({ clock: 'virtual' })
  await dom0.run(
    `modprobe -a bridge xen-netback; ${names.map((name) => `ip link add ${bridge(name)} type bridge; ip addr add ${address(name, 1)}/24 dev ${bridge(name)}; ip link set ${bridge(name)} up`).join('; ')}`,
  )
  dom0.spawn(`exec net-bench serve ${PORT}`)
  const guest = await check("a guest boots with the kernel's netback", async () => {
    const booted = await dom0.createGuest({ name: 'guest', cards: [xlCard('netback')] })
    await booted.card(cards.netback, `${address('netback', 2)}/24`)
    return booted
  })
  // From now on, netback doesn't take the cards that are plugged.
  await dom0.run('echo 0 > /sys/bus/xen-backend/drivers_autoprobe')
  const server = dom0.spawn('exec ours')
  await check('our card is attached', async () => {
    await server.output(/ready/)
    await dom0.run(`xl network-attach ${guest.domid} ${xlCard('ours').replace(',', ' ')}`)
    await guest.card(cards.ours, `${address('ours', 2)}/24`)
  })
  await check("QEMU's card is attached", async () => {
    await attachQemu(dom0, guest)
    await guest.card(cards.qemu, `${address('qemu', 2)}/24`)
  })
  const linux = await guest.run('uname -r')
  for (const { operation, argument = '' } of loads) {
    await guest.run(
      `net-bench ${operation} ${address('ours', 1)} ${PORT} ${WARM_UP_SECONDS} ${argument}`,
      300,
    )
  }
  const idle = await idleTime(dom0, guest, SECONDS)
  for (const load of loads) {
    const contestant = (name: Name) => (): Promise<Turn> =>
      takeTurn(dom0, guest, { name, load, idle })
    const contestants = {
      netback: contestant('netback'),
      ours: contestant('ours'),
      qemu: contestant('qemu'),
    }
    await takeTurns(1, contestants)
    figures(compare(load, linux, await takeTurns(ROUNDS, contestants)))
  }
  note(`      dom0 is ${await dom0.run('uname -r')}`)
  await guest.destroy()
  await server.stop()
}

/** Starts a QEMU that only serves a card. libxl never does, but QEMU announces the card itself. */
async function attachQemu(dom0: Dom0, guest: Guest): Promise<void> {
  dom0.spawn(
    `exec /usr/libexec/xen-qemu-system-i386 -machine xenpv -xen-domid ${guest.domid} -xen-attach -nodefaults -no-user-config -display none -serial none -monitor none -netdev tap,id=net,ifname=tap-qemu,script=no,downscript=no -device xen-net-device,netdev=net,mac=00:16:3e:00:00:02 > /lab/out/qnic.txt 2>&1`,
  )
  await dom0.run(
    `until ip link set tap-qemu master ${bridge('qemu')} up 2>/dev/null; do usleep 20000; done`,
  )
}

async function takeTurn(
  dom0: Dom0,
  guest: Guest,
  o: { readonly name: Name; readonly load: Load; readonly idle: number },
): Promise<Turn> {
  const { operation, argument = '', amount, per } = o.load
  const busy = await cpuTime(dom0, () =>
    guest.run(`net-bench ${operation} ${address(o.name, 1)} ${PORT} ${SECONDS} ${argument}`, 300),
  )
  const measured = JSON.parse(busy.output) as Measured
  const done = amount(measured)
  return {
    rate: done / measured.seconds,
    cpu: (busy.nanoseconds - o.idle) / (done * per.times) / 1000,
  }
}

/**
 * Compares our card with netback and xen_nic. Gates: at least half of netback's rate of TCP, and at
 * least xen_nic's rates; at most its processor time in domain 0.
 */
function compare(
  load: Load,
  linux: string,
  turns: Readonly<Record<Name, readonly Turn[]>>,
): Figure[] {
  const { name, unit, per, share } = load
  const rates = (of: Name): number[] => turns[of].map(({ rate }) => rate)
  const cpu = (of: Name): number[] => turns[of].map((turn) => turn.cpu)
  const made = (of: Name, what: (of: Name) => number[], of1: string): string =>
    `${short(median(what('ours')))} / ${short(median(what(of)))} ${of1}, Linux ${linux}`
  const figure = (of: Name, gate?: Gate, goal?: Gate): Figure => ({
    name: `${name}: ours / ${of}`,
    values: ratios(rates('ours'), rates(of)),
    ...(gate && { gate }),
    ...(goal && { goal }),
    detail: made(of, rates, unit),
  })
  const time = (of: Name, gate?: Gate): Figure => ({
    name: `${name}: dom0's time, ours / ${of}`,
    values: ratios(cpu('ours'), cpu(of)),
    ...(gate && { gate }),
    detail: made(of, cpu, `us a ${per.name}`),
  })
  return [
    share === undefined
      ? figure('netback', undefined, { atLeast: 1 })
      : figure('netback', { atLeast: share }),
    figure('qemu', { atLeast: 1 }),
    time('netback'),
    time('qemu', { atMost: 1 }),
  ]
}
