/** What the kernel says of a process. */
import { readFileSync, readdirSync } from 'node:fs'

/**
 * Seconds for which its first thread has had something to do: on a processor, or waiting for one.
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

/** Seconds that all its threads together have been on a processor. */
export function processorSeconds(pid: number): number {
  const running = readdirSync(`/proc/${pid}/task`).map((thread) =>
    Number(readFileSync(`/proc/${pid}/task/${thread}/schedstat`, 'latin1').split(' ', 1)[0]),
  )
  return running.reduce((sum, nanoseconds) => sum + nanoseconds, 0) / 1e9
}

/** Bytes of memory that no file is behind. */
export function residentBytes(pid: number): number {
  const [, kilobytes] =
    /^RssAnon:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'latin1')) ?? []
  return Number(kilobytes) * 1024
}
