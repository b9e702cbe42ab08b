/**
 * Compares whole network backends under the same load, xenkit's and two in C. docs/bench/netif.md
 * explains the benchmark.
 */
import { join } from 'node:path'
import { type Figure, type Gate, median, ratios, savePicture, takeTurns } from '@xenkit/lab'
import type { Bench } from '../../src/benchmark.ts'
import { describeEnvironment, environment } from '../../src/environment.ts'
import { Rig } from '../../rig/rig.ts'
import { Contestant, type Load } from './contestants.ts'
import { countSystemCalls } from './system-calls.ts'

export const title = 'packets between a guest and a TAP device, against C with a call per packet'

const ROUNDS = 9
const TURN_SECONDS = 0.15
const DEPTH = 64
const SIZES = [60, 256, 1514, 4096, 16_384, 65_535]
/** Sizes with a gate: small packets, packets of the usual MTU, and the longest segments. */
const GATED = new Set([60, 1514, 65_535])
const WARM_UP_PACKETS = 150_000
/** Packets of a count of system calls, and of heap. */
const COUNTED = 20_000
const HEAP_PACKETS = 1_000_000
const HEAP_TURN = 100_000

type Contestants = Readonly<Record<'ours' | 'C' | 'C, io_uring', Contestant>>

export async function run(bench: Bench): Promise<void> {
  const rig = await Rig.build(bench, join(import.meta.dirname, 'programs'))
  await using ours = await Contestant.ours(rig)
  await using each = await Contestant.inC(rig, 'each')
  await using uring = await Contestant.inC(rig, 'uring')
  const all = { ours, C: each, 'C, io_uring': uring }
  const pictured: Figure[] = []
  for (const direction of ['tx', 'rx'] as const) {
    await ours.turn({ direction, size: 60, depth: DEPTH }, { packets: WARM_UP_PACKETS })
    for (const size of SIZES) {
      const load = { direction, size, depth: DEPTH }
      await ours.turn(load, { seconds: TURN_SECONDS })
      let figures: Figure[] = []
      await bench.measure(`${direction}, ${size} bytes`, async () => {
        figures = await compare(all, load)
        return figures
      })
      pictured.push(...figures.slice(0, 1))
    }
    await bench.measure(`calls, ${direction}`, () => countCalls(ours, direction))
    await bench.measure(`heap, ${direction}`, () => countHeap(ours, direction))
  }
  await savePicture('netif', { heading: describeEnvironment(environment()), figures: pictured })
}

async function compare(all: Contestants, load: Load): Promise<Figure[]> {
  const { direction, size } = load
  const names =
    direction === 'tx' ? (['ours', 'C', 'C, io_uring'] as const) : (['ours', 'C'] as const)
  const busy = new Map<string, number[]>(names.map((name) => [name, []]))
  const rates = await takeTurns<string>(
    ROUNDS,
    Object.fromEntries(
      names.map((name) => [
        name,
        async () => {
          const turn = await all[name].turn(load, { seconds: TURN_SECONDS })
          busy.get(name)?.push((turn.busy * 1e6) / turn.packets)
          return turn.packets / turn.seconds
        },
      ]),
    ),
  )
  const rateOf = (name: string): readonly number[] => rates[name] ?? []
  const figure = (other: string, gate?: Gate): Figure => ({
    name: `${direction}, ${size} bytes: ours / ${other}`,
    values: ratios(rateOf('ours'), rateOf(other)),
    detail: `${Math.round(median(rateOf('ours')))} / ${Math.round(median(rateOf(other)))} packets per second`,
    ...(gate ? { gate } : {}),
  })
  const times = (name: string): readonly number[] => busy.get(name) ?? []
  return [
    figure('C', GATED.has(size) ? { atLeast: 0.9 } : undefined),
    ...(direction === 'tx' ? [figure('C, io_uring')] : []),
    {
      name: `${direction}, ${size} bytes: processor time of C / ours`,
      values: ratios(times('C'), times('ours')),
      detail: `${median(times('C')).toFixed(2)} / ${median(times('ours')).toFixed(2)} us per packet`,
    },
  ]
}

/**
 * On Xen each call on a device is a hypercall too, and each but the notification's a system call.
 */
async function countCalls(ours: Contestant, direction: Load['direction']): Promise<Figure[]> {
  const figures: Figure[] = []
  for (const [size, atMost] of [
    [60, 0.1],
    [65_535, 2],
  ] as const) {
    let hypercalls = 0
    let simulated = 0
    const traced = await countSystemCalls(ours.program.pid, async () => {
      const turn = await ours.turn({ direction, size, depth: DEPTH }, { packets: COUNTED })
      hypercalls = turn.grantCalls + turn.eventCalls
      simulated = turn.grantCalls + turn.unmasks
    })
    const figure = (what: string, calls: number): Figure => ({
      name: `${direction}, ${size} bytes: ${what} per packet`,
      values: [calls / COUNTED],
      gate: { atMost },
    })
    figures.push(figure('hypercalls', hypercalls), figure('system calls', traced + simulated))
  }
  return figures
}

async function countHeap(ours: Contestant, direction: Load['direction']): Promise<Figure[]> {
  const load = { direction, size: 60, depth: DEPTH }
  await ours.program.ask('begin')
  for (let done = 0; done < HEAP_PACKETS; done += HEAP_TURN) {
    await ours.turn(load, { packets: HEAP_TURN })
  }
  const bytes = await ours.program.ask<number>('end')
  const name = `${direction}: bytes of heap per packet`
  return [{ name, values: [bytes / HEAP_PACKETS], gate: { atMost: 1 } }]
}
