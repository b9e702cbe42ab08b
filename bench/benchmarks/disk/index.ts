/** The disk benchmarks: the load of each, and the contestants to compare. */
import type { Benchmark } from '../../src/benchmark.ts'
import { type Comparison, type Count, type Name, diskBenchmark } from './benchmark.ts'

const PREADS = ['C, pread', 'C, pread and spin'] as const satisfies readonly Name[]

const oursAndBestOfC: Comparison = { what: 'ours', with: PREADS, gate: { atLeast: 0.75 } }

/**
 * Comparisons under writes. The C backend that, like xenkit, doesn't block on the disk has a gate;
 * the C backends that block on it don't.
 */
const writing: readonly Comparison[] = [
  { what: 'ours', with: ['C, writes in a thread'], gate: { atLeast: 0.75 } },
  { what: 'ours', with: PREADS },
]

const events = (of: Name): Count[] => [
  {
    of,
    name: 'notifications per request, from the guest',
    value: ({ kicks, requests }) => kicks / requests,
  },
  {
    of,
    name: 'notifications per request, to the guest',
    value: ({ wakes, requests }) => wakes / requests,
    gate: { atMost: 0.13 },
  },
  {
    of,
    name: 'calls for grants per request',
    value: ({ grantCalls, requests }) => grantCalls / requests,
    gate: { atMost: 0 },
  },
  {
    of,
    name: 'calls for events per request',
    value: ({ eventCalls, requests }) => eventCalls / requests,
    gate: { atMost: 0.13 },
  },
]

export const diskBenchmarks = {
  qd32: diskBenchmark({
    title: '4 KiB reads, 32 at a time',
    load: { operation: 'read', depth: 32, segments: 1 },
    comparisons: [
      oursAndBestOfC,
      { what: 'ours, copied', with: PREADS },
      { what: 'C, mmap', with: PREADS },
    ],
    counts: [
      ...events('ours'),
      {
        of: 'ours, copied',
        name: 'calls for grants per request',
        value: ({ grantCalls, requests }) => grantCalls / requests,
        gate: { atMost: 0.13 },
      },
    ],
  }),
  qd1: diskBenchmark({
    title: '4 KiB reads, one at a time',
    load: { operation: 'read', depth: 1, segments: 1 },
    comparisons: [
      { what: 'ours', with: ['C, pread'], gate: { atLeast: 1.25 } },
      { what: 'ours', with: ['C, pread and spin'] },
    ],
    counts: [
      {
        of: 'ours',
        name: 'notifications per request, from the guest',
        value: ({ kicks, requests }) => kicks / requests,
        gate: { atMost: 0.05 },
      },
    ],
  }),
  write32: diskBenchmark({
    title: '4 KiB writes, 32 at a time',
    load: { operation: 'write', depth: 32, segments: 1 },
    comparisons: writing,
  }),
  mixed: diskBenchmark({
    title: '4 KiB, 70 reads to 30 writes, 32 at a time',
    load: { operation: 'mixed', depth: 32, segments: 1 },
    comparisons: writing,
  }),
  seq1m: diskBenchmark({
    title: '1 MiB reads by indirect requests, 4 at a time',
    load: { operation: 'read', depth: 4, segments: 256 },
    comparisons: [oursAndBestOfC],
  }),
  idiomatic: diskBenchmark({
    title: '4 KiB reads, 32 at a time, against a backend that calls fs.read for each',
    load: { operation: 'read', depth: 32, segments: 1 },
    comparisons: [{ what: 'ours', with: ['fs.read'], gate: { atLeast: 6 } }],
  }),
  mmap: diskBenchmark({
    title: '4 KiB reads of a disk in memory, 32 at a time, against pread of a file',
    load: { operation: 'read', depth: 32, segments: 1 },
    comparisons: [
      { what: 'ours, in memory', with: ['C, pread'], gate: { atLeast: 1.1 } },
      { what: 'ours, in memory', with: ['C, mmap'] },
    ],
    counts: events('ours, in memory'),
  }),
  workers: diskBenchmark({
    title: '4 KiB reads on two queues, 32 at a time on each',
    load: { operation: 'read', depth: 32, segments: 1 },
    spread: true,
    comparisons: [
      { what: 'ours, 2 workers', with: ['C, 2 threads'], gate: { atLeast: 0.75 } },
      { what: 'ours, 2 queues', with: ['C, 2 threads'] },
    ],
  }),
} satisfies Record<string, Benchmark>
