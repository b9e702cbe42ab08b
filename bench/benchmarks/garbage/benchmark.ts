/** Heap allocated per request. docs/bench/garbage.md explains the benchmark. */
import { join } from 'node:path'
import type { Figure } from '@xenkit/lab'
import type { Bench } from '../../src/benchmark.ts'
import { Program } from '../../src/program.ts'
import { Rig } from '../../rig/rig.ts'
import { Contestant, type Load } from '../disk/contestants.ts'

export const title = 'bytes of heap that a request takes'

const REQUESTS = 1_000_000
const BATCH = 32
/** Requests of one measured portion. The guest sends them and waits until all are answered. */
const TURN = 100_000
/** Requests before measuring, after which V8 has compiled the code and long-lived objects exist. */
const WARM_UP = 600_000
const LOAD: Load = { operation: 'read', depth: 32, segments: 1 }

export async function run(bench: Bench): Promise<void> {
  const rig = await Rig.build(bench, join(import.meta.dirname, 'programs'))
  const figure = (what: string, bytes: number): Figure => ({
    name: `bytes of heap per request, ${what}`,
    values: [bytes / REQUESTS],
    gate: { atMost: 1 },
  })
  await bench.measure('the ring', async () => {
    await using ring = await Program.start(bench.cpus.server, rig.command('ring'))
    await ring.ask(String(WARM_UP / BATCH))
    return [figure('the ring alone', await ring.ask<number>(String(REQUESTS / BATCH)))]
  })
  await using ours = await Contestant.ours(rig, 'persistent')
  await ours.turn(LOAD, { requests: WARM_UP })
  await bench.measure('the whole path', async () => {
    await ours.program.ask('begin')
    for (let done = 0; done < REQUESTS; done += TURN) await ours.turn(LOAD, { requests: TURN })
    return [figure('the whole path', await ours.program.ask<number>('end'))]
  })
}
