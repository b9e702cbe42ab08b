/** Events of disks as lines of a log, which is no guest's to fill. */
import { printable, textOf } from '@xenkit/hypervisor'
import { vdevName } from '../vdev.ts'
import type { VbdEvent } from './vbd-event.ts'

/**
 * Prints one line of `eventLog`.
 * @param o.failed whether the line reports a failure
 */
export type PrintLine = (line: string, o: { readonly failed: boolean }) => void

/** A line is not repeated for this long. */
const WINDOW_MS = 60_000
/** A state may be repeated within the window: a boot loader and then a kernel use the same disk. */
const STATES_PER_WINDOW = 4
/** Reasons told per disk and window. A guest has a say in their words, so they are not all told. */
const REASONS_PER_WINDOW = 16
/** Stands for the reasons that are too many. */
const OTHERS = 'failed for other reasons'

const PREFIXES = {
  failed: '',
  'store-failed': 'the store failed a request: ',
  declined: 'left to other backends: ',
  refused: 'not changed: ',
} as const

/**
 * Makes a listener for `onEvent` of `serveVbd` that passes a line for each event to `print`.
 * Within a minute a reason is passed on once for each disk, and a state four times. More are
 * counted: their number follows with the first event after that minute, or when the disk is
 * removed.
 *
 * @param print default: prints what fails to stderr
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
  /** Times it may be told in this window. */
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
    // The same reason at another sector is the same reason.
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

/** A store may have thrown undefined: the kind tells, not the error. */
const isFailure = (event: VbdEvent): event is Extract<VbdEvent, { kind: keyof typeof PREFIXES }> =>
  event.kind in PREFIXES

const reasonOf = (error: unknown): string =>
  error instanceof Error ? printable(error.message || error.name) : textOf(error)
