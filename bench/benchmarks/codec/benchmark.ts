/**
 * Compares xenkit's ring code with the macros of Xen's ring.h. docs/bench/codec.md explains the
 * benchmark.
 */
import { join } from 'node:path'
import { type Figure, median, ratios, takeTurns } from '@xenkit/lab'
import type { Bench } from '../../src/benchmark.ts'
import { buildPrograms } from '../../src/build-programs.ts'
import { Program } from '../../src/program.ts'

export const title = 'our ring, a batch of 32 drained and answered, against C after ring.h'

const ROUNDS = 31
const BATCHES = 20_000
/** Runs before measuring, each of BATCHES batches: V8 has compiled the code by then. */
const WARM_UP = 5

export async function run({ directory, cpus, measure }: Bench): Promise<void> {
  const commands = await buildPrograms(join(import.meta.dirname, 'programs'), {
    directory,
    libraries: [],
  })
  const start = (program: string, segments: number) =>
    Program.start(cpus.server, [...(commands.get(program) ?? []), String(segments)])
  for (const segments of [1, 11]) {
    await using ours = await start('ours', segments)
    await using image = await start('image', segments)
    for (let i = 0; i < WARM_UP; i++) await ours.ask(String(BATCHES))
    const what = segments === 1 ? '1 segment' : `${segments} segments`
    await measure(what, async (): Promise<Figure[]> => {
      const time = (program: Program) => () => program.ask<number>(String(BATCHES))
      const times = await takeTurns(ROUNDS, { ours: time(ours), image: time(image) })
      const detail = `${median(times.ours).toFixed(1)} / ${median(times.image).toFixed(1)} ns per request`
      return [
        {
          name: `time of a request, ${what}: ours / C`,
          values: ratios(times.ours, times.image),
          gate: { atMost: 4.5 },
          detail,
        },
      ]
    })
  }
}
