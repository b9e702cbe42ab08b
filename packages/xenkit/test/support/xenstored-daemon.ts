/** `xenkit xenstored` as a child process. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'

const main = join(import.meta.dirname, '../../src/cli/main.ts')

export interface Daemon extends AsyncDisposable {
  readonly process: ChildProcess
  /** Output of the process so far. */
  readonly output: { stdout: string; stderr: string }
  /**
   * Ends the process by a signal.
   * @returns the process's exit code
   */
  stop(signal: NodeJS.Signals): Promise<number | null>
}

/** Starts the process, and waits until it accepts clients. */
export async function startDaemon(socket: string): Promise<Daemon> {
  const child = spawn(
    process.execPath,
    ['--import', 'tsx', '--conditions=xenkit-source', main, 'xenstored', '--socket', socket],
    { stdio: ['ignore', 'pipe', 'pipe'] },
  )
  const output = { stdout: '', stderr: '' }
  const exited = once(child, 'close')
  child.stderr.on('data', (chunk: Buffer) => {
    output.stderr += chunk.toString()
  })
  const ready = new Promise<void>((resolve) => {
    child.stdout.on('data', (chunk: Buffer) => {
      output.stdout += chunk.toString()
      if (output.stdout.includes('\n')) resolve()
    })
  })
  await Promise.race([ready, exited])
  if (child.exitCode !== null) {
    throw new Error(`xenkit xenstored ended with ${child.exitCode}: ${output.stderr}`)
  }
  const stop = async (signal: NodeJS.Signals): Promise<number | null> => {
    child.kill(signal)
    await exited
    return child.exitCode
  }
  return {
    process: child,
    output,
    stop,
    [Symbol.asyncDispose]: async () => void (await stop('SIGKILL')),
  }
}

/**
 * Returns a note for a test's title if a program isn't installed. CI has all programs, so nothing
 * is skipped there.
 */
export function missing(name: string, command: string, ...args: string[]): string | undefined {
  if (process.env.CI === 'true') return undefined
  const { error, status } = spawnSync(command, args)
  return error || status !== 0 ? ` (skipped: ${name} is not installed)` : undefined
}
