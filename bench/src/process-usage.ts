/** Reads from /proc how much of processors and memory a process uses. */
import { readFileSync, readdirSync } from 'node:fs'

/**
 * Seconds for which the first thread of a process had work: running, or waiting for a processor.
 */
export function busySeconds(pid: number): number {
  const [running = Number.NaN, waiting = Number.NaN] = readFileSync(
    `/proc/${pid}/schedstat`,
    'latin1',
  )
    .split(' ')
    .map(Number)
  return (running + waiting) / 1e9
}

/** Seconds that all threads of a process together have run. */
export function processorSeconds(pid: number): number {
  const running = readdirSync(`/proc/${pid}/task`).map((thread) =>
    Number(readFileSync(`/proc/${pid}/task/${thread}/schedstat`, 'latin1').split(' ', 1)[0]),
  )
  return running.reduce((sum, nanoseconds) => sum + nanoseconds, 0) / 1e9
}

/** Bytes of a process's resident anonymous memory, which no file backs. */
export function residentBytes(pid: number): number {
  const [, kilobytes] =
    /^RssAnon:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'latin1')) ?? []
  return Number(kilobytes) * 1024
}
