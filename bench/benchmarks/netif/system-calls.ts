/** Counts system calls of a process by strace. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'

/**
 * Counts the system calls of all threads of a process while `work` runs.
 * @throws Error if strace is missing or may not trace
 */
export async function countSystemCalls(pid: number, work: () => Promise<unknown>): Promise<number> {
  const strace = spawn('strace', ['-f', '-c', '-p', String(pid)], {
    stdio: ['ignore', 'ignore', 'pipe'],
  })
  let text = ''
  const ended = once(strace, 'close')
  const attached = new Promise<void>((resolve) => {
    strace.stderr.setEncoding('utf8').on('data', (part: string) => {
      text += part
      if (text.includes(' attached')) resolve()
    })
  })
  await Promise.race([
    attached,
    ended.then(() => {
      throw new Error(`strace can't trace process ${pid}: ${text.trim()}`)
    }),
  ])
  await work()
  strace.kill('SIGINT')
  await ended
  // The line of the sums: share of time, seconds, microseconds per call, calls, and perhaps errors.
  const [, calls] = /^\s*100\.00\s+\S+\s+\S+\s+(\d+)\s.*total$/m.exec(text) ?? []
  if (calls === undefined) throw new Error(`strace printed no sum: ${text}`)
  return Number(calls)
}
