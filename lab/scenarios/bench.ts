/**
 * Compares our disk with the kernel's blkback and QEMU's qdisk. docs/bench/lab.md says what is
 * compared, and why that is fair.
 */
import { cpuTime, idleTime } from '../src/dom0/cpu-time.ts'
import type { Dom0 } from '../src/dom0/dom0.ts'
import { type Figure, short } from '../src/figure.ts'
import type { Guest } from '../src/guest/guest.ts'
import { median } from '../src/median.ts'
import { ratios, takeTurns } from '../src/rounds.ts'
import type { Lab } from '../src/scenario.ts'
import type { StackName } from '../src/stack.ts'

export const title = "our disk against QEMU's qdisk and the kernel's blkback, in virtual time"
export const programs = { ours: 'lab/dom0/bench/main.ts' }
/** Needs a libxl with backendtype=tap, because blkback would take disks of type vbd from us. */
export const stacks: readonly StackName[] = ['debian13-pv']
export const picture = 'lab'

const ROUNDS = 3
/** Virtual seconds that one measurement of one disk takes: ten or more real ones on a busy host. */
const SECONDS = 0.25
/** Number of requests by which a disk's first moments are measured, before any other request. */
const FIRST = 2_000
const GIVE_UP_SECONDS = 60
/** Least part of the later rate that those first requests must reach. */
const FIRST_SHARE = 0.5
/**
 * V8 compiles the code during the first 10,000 requests, on threads that share the only processor.
 */
const WARM_UP_SECONDS = 2

const disks = {
  blkback: 'vdev=xvda,access=w,backendtype=phy,target=/dev/ram0',
  qdisk: 'vdev=xvdb,access=w,backendtype=qdisk,target=/tmp/qdisk.img',
  persistent: 'vdev=xvdc,access=w,backendtype=tap,script=/bin/true,target=/tmp/persistent.img',
  copy: 'vdev=xvdd,access=w,backendtype=tap,script=/bin/true,target=/tmp/copy.img',
}

interface Load {
  readonly name: string
  /** Arguments of io-bench. */
  readonly args: string
  /** Factor that converts requests per second to the shown unit. */
  readonly unit: { readonly name: string; readonly worth: number }
  /** Share of blkback's rate that we aim for. */
  readonly goal?: number
}

const iops = { name: 'IOPS', worth: 1 }
const megabytes = { name: 'MB/s', worth: 1.048576 }
const deep: Load = {
  name: '4 KiB random reads, depth 32',
  args: 'random-read 4096 32',
  unit: iops,
  goal: 1,
}
const loads: readonly Load[] = [
  { name: '4 KiB random reads, depth 1', args: 'random-read 4096 1', unit: iops, goal: 0.9 },
  deep,
  { name: '1 MiB reads, depth 4', args: 'read 1048576 4', unit: megabytes },
  { name: '1 MiB writes, depth 4', args: 'write 1048576 4', unit: megabytes },
]

/** Result of measuring one disk once. */
interface Turn {
  readonly requestsPerSecond: number
  /** Domain 0's processor time per request, in microseconds. */
  readonly cpu: number
}

type Turns = Readonly<Record<keyof typeof disks, readonly Turn[]>>

export async function run({ boot, check, figures }: Lab): Promise<void> {
  const dom0 = await boot({ clock: 'virtual' })
  await dom0.run(
    'head -c 64M /dev/urandom > qdisk.img; cp qdisk.img persistent.img; cp qdisk.img copy.img; modprobe brd rd_nr=1 rd_size=65536; cat qdisk.img > /dev/ram0; modprobe xen-blkback',
  )
  const server = dom0.spawn('exec ours')
  await server.output(/ready/)
  const guest = await check('a guest boots with disks of each', () =>
    dom0.createGuest({ name: 'guest', disks: Object.values(disks) }),
  )
  const devices = {
    blkback: await guest.disk('xvda'),
    qdisk: await guest.disk('xvdb'),
    persistent: await guest.disk('xvdc'),
    copy: await guest.disk('xvdd'),
  }
  const first = {
    persistent: await firstRate(guest, devices.persistent),
    copy: await firstRate(guest, devices.copy),
  }
  for (const device of [devices.persistent, devices.copy]) {
    for (const { args } of loads) {
      await guest.run(`io-bench ${device} ${args} ${WARM_UP_SECONDS}`, 300)
    }
  }
  const idle = await idleTime(dom0, guest, SECONDS)
  for (const load of loads) {
    const contestant = (device: string) => (): Promise<Turn> =>
      takeTurn(dom0, guest, { device, load, idle })
    const contestants = {
      blkback: contestant(devices.blkback),
      qdisk: contestant(devices.qdisk),
      persistent: contestant(devices.persistent),
      copy: contestant(devices.copy),
    }
    await takeTurns(1, contestants)
    const turns = await takeTurns(ROUNDS, contestants)
    figures([...compare(load, turns), ...(load === deep ? compareFirst(first, turns) : [])])
  }
  await guest.destroy()
  await server.stop()
}

/** Measures a disk's first requests. @returns requests per second */
async function firstRate(guest: Guest, device: string): Promise<number> {
  const most = `${GIVE_UP_SECONDS} ${FIRST}`
  const output = await guest.run(`io-bench ${device} ${deep.args} ${most}`, 300)
  const { requests, seconds } = JSON.parse(output) as { requests: number; seconds: number }
  return requests / seconds
}

function compareFirst(
  first: Readonly<Record<'persistent' | 'copy', number>>,
  turns: Turns,
): Figure[] {
  return (['persistent', 'copy'] as const).map((ours): Figure => {
    const later = median(turns[ours].map(({ requestsPerSecond }) => requestsPerSecond))
    return {
      name: `${deep.name}: first ${FIRST}, ${ours} / later`,
      values: [first[ours] / later],
      gate: { atLeast: FIRST_SHARE },
      detail: `${short(first[ours])} / ${short(later)} ${deep.unit.name}`,
    }
  })
}

async function takeTurn(
  dom0: Dom0,
  guest: Guest,
  o: { readonly device: string; readonly load: Load; readonly idle: number },
): Promise<Turn> {
  const busy = await cpuTime(dom0, () =>
    guest.run(`io-bench ${o.device} ${o.load.args} ${SECONDS}`, 300),
  )
  const { requests, seconds } = JSON.parse(busy.output) as { requests: number; seconds: number }
  return {
    requestsPerSecond: requests / seconds,
    cpu: (busy.nanoseconds - o.idle) / requests / 1000,
  }
}

/**
 * Compares our disk with qdisk and blkback. Gates: at least qdisk's rate, and at most its processor
 * time in domain 0. blkback's rate is only a goal.
 */
function compare({ name, unit, goal }: Load, turns: Turns): Figure[] {
  const rates = (of: keyof Turns): number[] =>
    turns[of].map(({ requestsPerSecond }) => requestsPerSecond * unit.worth)
  const cpu = (of: keyof Turns): number[] => turns[of].map((turn) => turn.cpu)
  const made = (a: readonly number[], b: readonly number[], of: string): string =>
    `${short(median(a))} / ${short(median(b))} ${of}`
  return (['persistent', 'copy'] as const).flatMap((ours): Figure[] => [
    {
      name: `${name}: ${ours} / qdisk`,
      values: ratios(rates(ours), rates('qdisk')),
      gate: { atLeast: 1 },
      detail: made(rates(ours), rates('qdisk'), unit.name),
    },
    {
      name: `${name}: ${ours} / blkback`,
      values: ratios(rates(ours), rates('blkback')),
      ...(goal !== undefined && { goal: { atLeast: goal } }),
      detail: made(rates(ours), rates('blkback'), unit.name),
    },
    {
      name: `${name}: dom0's time, ${ours} / qdisk`,
      values: ratios(cpu(ours), cpu('qdisk')),
      gate: { atMost: 1 },
      detail: made(cpu(ours), cpu('qdisk'), 'us a request'),
    },
    {
      name: `${name}: dom0's time, ${ours} / blkback`,
      values: ratios(cpu(ours), cpu('blkback')),
      detail: made(cpu(ours), cpu('blkback'), 'us a request'),
    },
  ])
}
