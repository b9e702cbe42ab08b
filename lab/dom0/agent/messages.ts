/**
 * Messages between the host and the agent in dom0, one JSON object per line.
 *
 * Each activity of the agent is a channel, which the host numbers: a process, or the console of a
 * guest. A channel sends text to the host, may accept text, and ends once.
 */
export type Request =
  /** Runs `command` in its own shell, which stops at the first failure (`-e -o pipefail`). */
  | { readonly type: 'spawn'; readonly id: number; readonly command: string }
  /**
   * Opens the terminal at `path`, such as a guest's console that xenstore names in `console/tty`.
   */
  | { readonly type: 'open'; readonly id: number; readonly path: string }
  | { readonly type: 'write'; readonly id: number; readonly text: string }
  | { readonly type: 'signal'; readonly id: number; readonly signal: NodeJS.Signals }

export type Report =
  /** The agent's first message, sent once: it accepts requests. */
  | { readonly type: 'ready' }
  | { readonly type: 'output'; readonly id: number; readonly stream: Stream; readonly text: string }
  /** `status` is the process's, as shells report it: 128 + number for a signal. */
  | { readonly type: 'end'; readonly id: number; readonly status: number }

export type Stream = 'stdout' | 'stderr'

/** Name of the virtio port between host and agent. */
export const PORT_NAME = 'xenkit.lab'
