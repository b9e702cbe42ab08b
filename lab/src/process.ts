/** Runs programs of this machine until they end. */
import { spawn } from 'node:child_process'
import { text } from 'node:stream/consumers'

export interface CommandOptions {
  readonly cwd?: string
  /** Text or bytes for the program's standard input. */
  readonly input?: string | Uint8Array
  readonly env?: NodeJS.ProcessEnv
}

/**
 * Runs a program and returns its standard output.
 * @throws Error with the end of its standard error when its exit status isn't 0
 */
export async function command(
  program: string,
  args: readonly string[],
  options: CommandOptions = {},
): Promise<string> {
  // e2fsprogs, kmod and ldconfig are in /sbin, which an ordinary user's PATH lacks.
  const env = {
    ...process.env,
    PATH: `${process.env['PATH'] ?? ''}:/usr/sbin:/sbin`,
    LC_ALL: 'C',
    ...options.env,
  }
  const child = spawn(program, args, { cwd: options.cwd, env, stdio: ['pipe', 'pipe', 'pipe'] })
  const status = new Promise<number | string>((resolve, reject) => {
    child.once('error', (error: NodeJS.ErrnoException) =>
      reject(
        error.code === 'ENOENT'
          ? new Error(`"${program}" isn't installed, see lab/README.md for the packages`)
          : error,
      ),
    )
    child.once('close', (code, signal) => resolve(code ?? signal ?? 'unknown'))
  })
  // A program may end without reading its input. Ignore the broken pipe: the program's status
  // decides.
  child.stdin.on('error', () => {})
  child.stdin.end(options.input)
  const [stdout, stderr, code] = await Promise.all([text(child.stdout), text(child.stderr), status])
  if (code !== 0) {
    throw new Error(
      `"${program} ${args.join(' ')}" failed with ${code}: ${stderr.trim().slice(-2000)}`,
    )
  }
  return stdout
}
