import type { Benchmark } from '../src/benchmark.ts'
import * as xenstore from './xenstore/benchmark.ts'

/** By the name that the command takes. */
export const benchmarks: Readonly<Record<string, Benchmark>> = { xenstore }
