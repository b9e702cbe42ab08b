/**
 * What the host and the agent in dom0 say to each other, one JSON object per line.
 *
 * Everything the agent does is a channel, numbered by the host: a process, or the console of a
 * guest. A channel carries text out, may take text in, and ends once.
 */
export type Request =
  /** Runs `command` in a shell of its own, which ends with the first failure (`-e -o pipefail`). */
  | { readonly type: 'spawn'; readonly id: number; readonly command: string }
  /** Opens the terminal at `path`: a guest's console as xenstore's `console/tty` names it. */
  | { readonly type: 'open'; readonly id: number; readonly path: string }
  | { readonly type: 'write'; readonly id: number; readonly text: string }
  | { readonly type: 'signal'; readonly id: number; readonly signal: NodeJS.Signals }

export type Report =
  /** Said once, first. */
  | { readonly type: 'ready' }
  | { readonly type: 'output'; readonly id: number; readonly stream: Stream; readonly text: string }
  /** `status` as a shell counts: 128 + number for a signal. */
  | { readonly type: 'end'; readonly id: number; readonly status: number }

export type Stream = 'stdout' | 'stderr'

/** Name of the virtio port between them. */
export const PORT_NAME = 'xenkit.lab'
