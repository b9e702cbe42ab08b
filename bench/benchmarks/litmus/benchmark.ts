/**
 * Looks for lost wake-ups between the two ends of a ring. docs/bench/litmus.md explains the
 * benchmark.
 */
import { join } from 'node:path'
import type { Bench } from '../../src/benchmark.ts'
import { dataGrefOf, grefOf, Rig } from '../../rig/rig.ts'

export const title = 'wake-ups that get lost between the two ends of a ring'

const ROUNDS = 2_000_000
const TURN_ROUNDS = 100_000

interface Lost {
  readonly requests: number
  readonly responses: number
}

export async function run(bench: Bench): Promise<void> {
  const rig = await Rig.build(bench, join(import.meta.dirname, 'programs'))
  const lost = async (barrier: string, enough: (lost: Lost) => boolean): Promise<Lost> => {
    await using guest = await rig.guest('peer')
    await using backend = await rig.ours(guest, 'sleeper', grefOf(0), dataGrefOf(0, 0), barrier)
    const sum = { requests: 0, responses: 0 }
    for (let rounds = 0; rounds < ROUNDS && !enough(sum); rounds += TURN_ROUNDS) {
      const [{ requests, responses }] = await Promise.all([
        guest.program.ask<Lost>(String(TURN_ROUNDS)),
        backend.program.ask(String(TURN_ROUNDS)),
      ])
      sum.requests += requests
      sum.responses += responses
    }
    return sum
  }
  await bench.measure('with barriers', async () => {
    const { requests, responses } = await lost('full', () => false)
    return [
      {
        name: 'requests that nobody wakes up for',
        values: [requests],
        gate: { atMost: 0 },
        detail: `of ${ROUNDS}`,
      },
      {
        name: 'responses that nobody wakes up for',
        values: [responses],
        gate: { atMost: 0 },
        detail: `of ${ROUNDS}`,
      },
    ]
  })
  // Without barriers wake-ups must get lost: otherwise this test couldn't detect a loss.
  await bench.measure('without', async () => {
    const { requests, responses } = await lost(
      'none',
      (sum) => sum.requests > 0 && sum.responses > 0,
    )
    return [
      {
        name: 'requests, indices stored without a barrier',
        values: [requests],
        gate: { atLeast: 1 },
      },
      {
        name: 'responses, indices stored without a barrier',
        values: [responses],
        gate: { atLeast: 1 },
      },
    ]
  })
}
