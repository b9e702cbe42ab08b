/** The two kinds of channel: a process and a terminal. */
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
 * A shell that runs `command` and fails with the first part of it that does. Signals go to its
 * whole process group, hence to what it started, too.
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
  // 'close' and not 'exit': only then has all output been read.
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
    // Ended already: its 'close' is on the way.
  }
}

/** A pseudo terminal, open for as long as its other side is. */
export function openTerminal(
  path: string,
  onOutput: (text: string) => void,
  onEnd: (status: number) => void,
): Channel {
  // Two descriptors: each stream closes its own. Not as the agent's controlling terminal, whose
  // hangup would end it.
  const open = (flag: number): number => openSync(path, flag | files.O_NOCTTY)
  const input = new ReadStream(open(files.O_RDONLY))
  const output = new WriteStream(open(files.O_WRONLY))
  // xenconsoled closes its side when the domain is gone. The read then fails with EIO: the ordinary
  // end.
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
