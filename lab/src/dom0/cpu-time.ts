/** Measures domain 0's processor time while a guest works, by lab/dom0/cpu-time.c. */
import type { Guest } from '../guest/guest.ts'
import { median } from '../median.ts'
import { takeTurns } from '../rounds.ts'
import type { Dom0 } from './dom0.ts'

/**
 * Measurements of an idle machine. They are more than a median needs, because earlier work may
 * continue for a while.
 */
const IDLE_ROUNDS = 7

/** Runs `work` and measures domain 0's processor time meanwhile. */
export async function cpuTime(
  dom0: Dom0,
  work: () => Promise<string>,
): Promise<{ readonly nanoseconds: number; readonly output: string }> {
  const begin = Number(await dom0.run('cpu-time'))
  const output = await work()
  return { nanoseconds: Number(await dom0.run('cpu-time')) - begin, output }
}

/**
 * Measures domain 0's processor time in nanoseconds while the guest sleeps. Most of it is the cost
 * of measuring, which other measurements subtract.
 */
export async function idleTime(dom0: Dom0, guest: Guest, seconds: number): Promise<number> {
  const { sleep } = await takeTurns(IDLE_ROUNDS, {
    sleep: () => cpuTime(dom0, () => guest.run(`sleep ${seconds}`)),
  })
  return median(sleep.map(({ nanoseconds }) => nanoseconds))
}
