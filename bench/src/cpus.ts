/** Finds the processors of this machine, by number, and moves processes to them. */
import { readFile } from 'node:fs/promises'
import { command } from '@xenkit/lab'

/** Parses a list of processors in the kernel's format, such as `0-2,5`. */
export function parseCpuList(list: string): number[] {
  return list
    .trim()
    .split(',')
    .flatMap((range) => {
      const [first = Number.NaN, last = first] = range.split('-').map(Number)
      return Array.from({ length: last - first + 1 }, (_, index) => first + index)
    })
}

/** Processors that this process may use. */
export async function usableCpus(): Promise<number[]> {
  const status = await readFile('/proc/self/status', 'latin1')
  return parseCpuList(/^Cpus_allowed_list:(.*)$/m.exec(status)?.[1] ?? '')
}

/** Restricts a running process with one thread to a processor. */
export async function moveTo(cpu: number, pid: number): Promise<void> {
  await command('taskset', ['--pid', '--cpu-list', String(cpu), String(pid)])
}
