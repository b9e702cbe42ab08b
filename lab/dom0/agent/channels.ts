/** The two kinds of channel: a process, and a terminal. */
import { spawn } from 'node:child_process'
import { constants as files, openSync } from 'node:fs'
import { constants } from 'node:os'
import { ReadStream, WriteStream } from 'node:tty'
import type { Stream } from './messages.ts'

export interface Channel {
  write(text: string): void
  signal(signal: NodeJS.Signals): void
}

/**
 * Starts a shell that runs `command` and stops at the first failing part. Signals go to the whole
 * process group, so they also reach its children.
 */
export function startProcess(
  command: string,
  onOutput: (stream: Stream, text: string) => void,
  onEnd: (status: number) => void,
): Channel {
  const child = spawn('bash', ['-e', '-o', 'pipefail', '-c', command], {
    stdio: ['pipe', 'pipe', 'pipe'],
    detached: true,
    cwd: '/tmp',
  })
  child.stdout.setEncoding('utf8').on('data', (text: string) => onOutput('stdout', text))
  child.stderr.setEncoding('utf8').on('data', (text: string) => onOutput('stderr', text))
  child.stdin.on('error', () => {})
  child.on('error', (error) => onOutput('stderr', `${error.message}\n`))
  // 'close' instead of 'exit', because at 'close' all output has been read.
  child.on('close', (code, signal) =>
    onEnd(code ?? 128 + (signal === null ? 0 : constants.signals[signal])),
  )
  return {
    write: (text) => child.stdin.write(text),
    signal: (signal) => signalGroup(child.pid, signal),
  }
}

function signalGroup(pid: number | undefined, signal: NodeJS.Signals): void {
  if (pid === undefined) return
  try {
    process.kill(-pid, signal)
  } catch {
    // The process has ended already; its 'close' event follows.
  }
}

/** Opens a pseudo terminal. The channel ends when the terminal's other side is closed. */
export function openTerminal(
  path: string,
  onOutput: (text: string) => void,
  onEnd: (status: number) => void,
): Channel {
  // Two descriptors, because each stream closes its own. O_NOCTTY keeps the terminal from becoming
  // the agent's controlling terminal, whose hangup would end the agent.
  const open = (flag: number): number => openSync(path, flag | files.O_NOCTTY)
  const input = new ReadStream(open(files.O_RDONLY))
  const output = new WriteStream(open(files.O_WRONLY))
  // When the domain is gone, xenconsoled closes its side and the read fails with EIO. That is the
  // ordinary end.
  input.on('error', () => input.destroy())
  output.on('error', () => {})
  input.on('close', () => {
    output.destroy()
    onEnd(0)
  })
  input.setEncoding('utf8').on('data', (text: string) => onOutput(text))
  return {
    write: (text) => output.write(text),
    signal: () => input.destroy(),
  }
}
