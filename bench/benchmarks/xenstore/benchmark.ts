/**
 * Compares xenkit's client with libxenstore, and xenkit's xenstored with the C one.
 * docs/bench/xenstore.md explains the benchmark.
 */
import { join } from 'node:path'
import { type Figure, median, ratios, takeTurns, XenstoredProcess } from '@xenkit/lab'
import { xenstoreSocket } from '@xenkit/xen'
import { openXenstore } from '@xenkit/xenstore-client'
import type { Bench } from '../../src/benchmark.ts'
import { buildPrograms } from '../../src/build-programs.ts'
import { moveTo } from '../../src/cpus.ts'
import { residentBytes } from '../../src/process-usage.ts'
import { Program } from '../../src/program.ts'

export const title = 'our client against libxenstore, our store against the C xenstored'

const ROUNDS = 31
const TURN_SECONDS = 0.05
/** Seconds of requests before measuring: V8 compiles the code only after some thousand requests. */
const WARM_UP_SECONDS = 0.5
const DEPTH = 64
const TRANSACTIONS = 16
const EVENTS = 8000

/** A node that backends read often: the path of the device's other end. */
const NODE = '/local/domain/1/device/vbd/51712/backend'
const VALUE = '/local/domain/0/backend/vbd/1/51712'

interface Store {
  readonly name: string
  readonly socket: string
  readonly pid: number
  /** Returns the bytes of memory that the store uses. */
  memory(): Promise<number>
}

interface Stage {
  readonly real: Store
  readonly embedded: Store
  /** Starts one of the programs in the folder `programs`. */
  start(program: string, ...args: (string | number)[]): Promise<Program>
}

export async function run({ directory, cpus, measure }: Bench): Promise<void> {
  const commands = await buildPrograms(join(import.meta.dirname, 'programs'), {
    directory,
    libraries: ['-lxenstore'],
  })
  const startOn = (
    cpu: number,
    program: string,
    args: readonly (string | number)[],
  ): Promise<Program> => Program.start(cpu, [...(commands.get(program) ?? []), ...args.map(String)])

  await using xenstored = await XenstoredProcess.start()
  await moveTo(cpus.server, xenstored.pid)
  const socket = join(directory, 'socket')
  await using embedded = await startOn(cpus.server, 'embedded', [socket])
  const stage: Stage = {
    real: {
      name: 'C xenstored',
      socket: xenstored.socketPath,
      pid: xenstored.pid,
      memory: async () => residentBytes(xenstored.pid),
    },
    embedded: { name: 'embedded store', socket, pid: embedded.pid, memory: () => embedded.ask() },
    start: (program, ...args) => startOn(cpus.client, program, args),
  }
  await measure('reads', () => reads(stage))
  await measure('transactions', () => transactions(stage))
  for (const store of [stage.real, stage.embedded]) {
    await measure(`watches, ${store.name}`, () => watches(stage, store))
  }
  await measure('sizes', () => sizes(stage))
}

async function reads({ real, embedded, start }: Stage): Promise<Figure[]> {
  for (const { socket } of [real, embedded]) {
    using xs = await openXenstore(xenstoreSocket(socket))
    await xs.write(NODE, VALUE)
  }
  await using libxenstore = await start('libxenstore', real.socket, NODE)
  await using pipelinedInC = await start('pipelined', real.socket, NODE, DEPTH)
  await using serial = await start('read', real.socket, NODE, 1, real.pid)
  await using pipelined = await start('read', real.socket, NODE, DEPTH, real.pid)
  await using ofEmbedded = await start('read', embedded.socket, NODE, DEPTH, embedded.pid)
  await warmUp([serial, pipelined, ofEmbedded])
  const busy: number[] = []
  const rates = await takeTurns(ROUNDS, {
    libxenstore: () => rateOf(libxenstore),
    serial: () => rateOf(serial),
    pipelined: async () => {
      const answer = await pipelined.ask<{ rate: number; busy: number }>(String(TURN_SECONDS))
      busy.push(answer.busy)
      return answer.rate
    },
    inC: () => rateOf(pipelinedInC),
    embedded: () => rateOf(ofEmbedded),
  })
  return [
    {
      name: `reads, ${DEPTH} at a time: ours / a C program`,
      ...compare(rates.pipelined, rates.inC),
      gate: { atLeast: 0.9 },
    },
    {
      name: `reads, ${DEPTH} at a time: ours / libxenstore`,
      ...compare(rates.pipelined, rates.libxenstore),
    },
    {
      name: 'reads, one at a time: ours / libxenstore',
      ...compare(rates.serial, rates.libxenstore),
      gate: { atLeast: 0.6 },
    },
    { name: `reads, ${DEPTH} at a time: C xenstored busy, share of time`, values: busy },
    {
      name: `reads, ${DEPTH} at a time: embedded store / C xenstored`,
      ...compare(rates.embedded, rates.pipelined),
    },
  ]
}

async function transactions({ real, start }: Stage): Promise<Figure[]> {
  await using serial = await start('transact', real.socket, 1)
  await using parallel = await start('transact', real.socket, TRANSACTIONS)
  await warmUp([serial, parallel])
  const rates = await takeTurns(ROUNDS, {
    serial: () => rateOf(serial),
    parallel: () => rateOf(parallel),
  })
  return [
    {
      name: `transactions: ${TRANSACTIONS} at a time / one at a time`,
      ...compare(rates.parallel, rates.serial),
    },
  ]
}

async function watches({ start }: Stage, { name, socket, memory }: Store): Promise<Figure[]> {
  interface Answer {
    readonly rate: number
    readonly samples: readonly {
      readonly events: number
      readonly heap: number
      readonly resident: number
    }[]
  }
  await using program = await start('watch', socket)
  // After these events every watch has fired twice, the code is compiled, and buffers have grown.
  await program.ask('20000 4000')
  const before = await memory()
  const { rate, samples } = await program.ask<Answer>(`${EVENTS} 1100`)
  const after = await memory()
  const growth = (of: 'heap' | 'resident'): Pick<Figure, 'values' | 'detail'> => ({
    values: samples.slice(1).map((sample, index) => {
      const last = samples[index] ?? sample
      return (sample[of] - last[of]) / (sample.events - last.events)
    }),
    detail: fromTo(samples.map((sample) => sample[of])),
  })
  return [
    { name: `watches, ${name}: events a second`, values: [rate], gate: { atLeast: 1000 } },
    {
      name: `watches, ${name}: bytes of heap per event, client`,
      ...growth('heap'),
      gate: { atMost: 8 },
    },
    { name: `watches, ${name}: bytes of memory per event, client`, ...growth('resident') },
    {
      name: `watches, ${name}: bytes of memory per event, store`,
      values: [(after - before) / EVENTS],
      detail: fromTo([before, after]),
      gate: { atMost: 8 },
    },
  ]
}

async function sizes({ start }: Stage): Promise<Figure[]> {
  await using few = await start('operate', 3)
  await using many = await start('operate', 5)
  const figures: Figure[] = []
  for (const operation of ['list', 'read', 'transaction']) {
    await warmUp([few, many], `${operation} `)
    const rates = await takeTurns(ROUNDS, {
      few: () => rateOf(few, `${operation} `),
      many: () => rateOf(many, `${operation} `),
    })
    figures.push({
      name: `cost of a ${operation}: 100,000 nodes / 1,000 nodes`,
      ...compare(rates.few, rates.many),
      gate: { atMost: 2 },
    })
  }
  return figures
}

const rateOf = async (program: Program, request = ''): Promise<number> =>
  (await program.ask<{ rate: number }>(`${request}${TURN_SECONDS}`)).rate

async function warmUp(programs: readonly Program[], request = ''): Promise<void> {
  for (const program of programs) await program.ask(`${request}${WARM_UP_SECONDS}`)
}

const compare = (
  some: readonly number[],
  others: readonly number[],
): Pick<Figure, 'values' | 'detail'> => ({
  values: ratios(some, others),
  detail: `${Math.round(median(some))} / ${Math.round(median(others))} per second`,
})

const fromTo = (bytes: readonly number[]): string =>
  [bytes.at(0), bytes.at(-1)]
    .map((value = Number.NaN) => `${(value / 2 ** 20).toFixed(2)} MiB`)
    .join(' .. ')
