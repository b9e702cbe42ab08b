/** Where figures come from: they mean nothing without it. */
import { cpus, release, totalmem } from 'node:os'

export const environment = () => ({
  date: new Date().toISOString(),
  node: process.versions.node,
  v8: process.versions.v8,
  kernel: release(),
  processor: cpus()[0]?.model ?? 'unknown',
  processors: cpus().length,
  memoryBytes: totalmem(),
})
