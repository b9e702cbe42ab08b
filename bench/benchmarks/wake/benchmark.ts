/**
 * Measures the time from an event to the event that answers it, through xenkit's addon and in C.
 * docs/bench/wake.md explains the benchmark.
 */
import { join } from 'node:path'
import { median, ratios, takeTurns } from '@xenkit/lab'
import type { Bench } from '../../src/benchmark.ts'
import { portOf, Rig } from '../../rig/rig.ts'

export const title = 'from an event to the answer to it: our event channel against a C program'

const ROUNDS = 31
const TURN_SECONDS = 0.1
const WARM_UP_SECONDS = 0.5

export async function run(bench: Bench): Promise<void> {
  const rig = await Rig.build(bench, join(import.meta.dirname, 'programs'))
  await using pinged = await rig.guest('ping')
  await using _ours = await rig.ours(pinged, 'echo', portOf(0))
  await using pingedInC = await rig.guest('ping')
  await using _inC = await rig.backend(pingedInC, 'echo-in-c')
  await pinged.program.ask(String(WARM_UP_SECONDS))
  await bench.measure('round trips', async () => {
    const rates = await takeTurns(ROUNDS, {
      ours: () => pinged.program.ask<number>(String(TURN_SECONDS)),
      inC: () => pingedInC.program.ask<number>(String(TURN_SECONDS)),
    })
    const microseconds = (of: readonly number[]): string => (1e6 / median(of)).toFixed(1)
    return [
      {
        name: 'time of a round trip: ours / C',
        values: ratios(rates.inC, rates.ours),
        gate: { atMost: 1.5 },
        detail: `${microseconds(rates.ours)} / ${microseconds(rates.inC)} us`,
      },
    ]
  })
}
