import type { Benchmark } from '../src/benchmark.ts'
import * as codec from './codec/benchmark.ts'
import * as density from './density/benchmark.ts'
import { diskBenchmarks } from './disk/index.ts'
import * as garbage from './garbage/benchmark.ts'
import * as litmus from './litmus/benchmark.ts'
import * as netif from './netif/benchmark.ts'
import * as wake from './wake/benchmark.ts'
import * as xenstore from './xenstore/benchmark.ts'

/** Benchmarks, by the name that the command line takes. */
export const benchmarks: Readonly<Record<string, Benchmark>> = {
  codec,
  garbage,
  ...diskBenchmarks,
  netif,
  wake,
  litmus,
  density,
  xenstore,
}
