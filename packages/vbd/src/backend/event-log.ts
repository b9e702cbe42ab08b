/** Prints events of disks as log lines, at a bounded rate: no guest can flood the log. */
import { printable, textOf } from '@xenkit/hypervisor'
import { vdevName } from '../vdev.ts'
import type { VbdEvent } from './vbd-event.ts'

/**
 * Prints one line of `eventLog`.
 * @param o.failed whether the line reports a failure
 */
export type PrintLine = (line: string, o: { readonly failed: boolean }) => void

/** Length of a window, in milliseconds. An error is printed once in a window. */
const WINDOW_MS = 60_000
/**
 * A state may be printed this often in a window: a boot loader, then a kernel use the same disk.
 */
const STATES_PER_WINDOW = 4
/**
 * Most different errors printed of a disk in a window. A guest can influence their text, so without
 * a limit it could fill the log.
 */
const REASONS_PER_WINDOW = 16
/** Printed for errors above that limit. */
const OTHERS = 'failed for other reasons'

const PREFIXES = {
  failed: '',
  'store-failed': 'the store failed a request: ',
  declined: 'left to other backends: ',
  refused: 'not changed: ',
} as const

/**
 * Makes a listener for `onEvent` of `serveVbd` that passes a line for each event to `print`. Within
 * a minute an error is printed once for each disk, a state four times. Repetitions are counted.
 * Their number is printed with the first event after that minute, or when the disk is removed.
 *
 * @param print prints a line; default: failures to stderr, other lines nowhere
 * @example
 * await serveVbd(hv, { store, onEvent: eventLog((line) => console.log(line)) })
 */
export function eventLog(print: PrintLine = printFailure): (event: VbdEvent) => void {
  const disks = new Map<string, DiskLog>()
  return (event) => {
    const name = `${vdevName(event.disk.devid)} of domain ${event.disk.frontendDomid}`
    const disk = disks.get(name) ?? new DiskLog(name, print)
    disks.set(name, disk)
    disk.tell(event)
    if (event.kind !== 'removed') return
    disk.tellCounts()
    disks.delete(name)
  }
}

function printFailure(line: string, { failed }: { readonly failed: boolean }): void {
  if (failed) console.error(line)
}

interface Line {
  readonly text: string
  readonly failed: boolean
  /** How often it may still be printed in this window. */
  left: number
  untold: number
}

class DiskLog {
  readonly #name: string
  readonly #print: PrintLine
  readonly #lines = new Map<string, Line>()
  #windowEnd = -Infinity

  constructor(name: string, print: PrintLine) {
    this.#name = name
    this.#print = print
  }

  tell(event: VbdEvent): void {
    if (performance.now() >= this.#windowEnd) this.#beginWindow()
    const line = this.#lineOf(event)
    if (line.left === 0) {
      line.untold++
      return
    }
    line.left--
    this.#say(line.text, line)
  }

  tellCounts(): void {
    for (const line of this.#lines.values()) {
      if (line.untold > 0) this.#say(`${line.text} (${line.untold} times more)`, line)
    }
  }

  #beginWindow(): void {
    this.tellCounts()
    this.#lines.clear()
    this.#windowEnd = performance.now() + WINDOW_MS
  }

  #lineOf(event: VbdEvent): Line {
    const failed = isFailure(event)
    const text = failed ? PREFIXES[event.kind] + reasonOf(event.error) : event.kind
    // Numbers are ignored: an error at another sector counts as a repetition.
    const key = text.replaceAll(/\d+/g, '0')
    const isKnown = this.#lines.has(key) || this.#lines.size < REASONS_PER_WINDOW
    return !failed || isKnown ? this.#line(key, text, failed) : this.#line('', OTHERS, failed)
  }

  #line(key: string, text: string, failed: boolean): Line {
    const left = failed ? 1 : STATES_PER_WINDOW
    const line = this.#lines.get(key) ?? { text, failed, left, untold: 0 }
    this.#lines.set(key, line)
    return line
  }

  #say(text: string, { failed }: Line): void {
    this.#print(`${this.#name}: ${text}`, { failed })
  }
}

/** Judged by the kind, not by `error`: a store may throw undefined. */
const isFailure = (event: VbdEvent): event is Extract<VbdEvent, { kind: keyof typeof PREFIXES }> =>
  event.kind in PREFIXES

const reasonOf = (error: unknown): string =>
  error instanceof Error ? printable(error.message || error.name) : textOf(error)
