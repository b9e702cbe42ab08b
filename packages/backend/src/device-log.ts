/** Prints events of devices as log lines, at a bounded rate: no guest can flood the log. */
import { printable, textOf } from '@xenkit/hypervisor'

/**
 * Prints one line of a log of events.
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
 * Most different errors printed of a device in a window. A guest can influence their text, so
 * without a limit it could fill the log.
 */
const REASONS_PER_WINDOW = 16
/** Printed for errors above that limit. */
const OTHERS = 'failed for other reasons'

/** An event of a device. */
interface LoggedEvent {
  readonly kind: string
  readonly error?: unknown
}

/** How `deviceLog` writes a device type's events. */
export interface DeviceLogOptions<Event extends LoggedEvent> {
  /** Names the event's device: `xvda of domain 3`. */
  readonly nameOf: (event: Event) => string
  /**
   * Kinds of failures, each with the words before the error's text. Failures are told by their
   * kind, not by `error`: a store may throw undefined.
   */
  readonly failures: Readonly<Record<string, string>>
}

/**
 * Makes a listener that passes a line for each event to `print`. Within a minute an error is
 * printed once for each device, a state four times. Repetitions are counted. Their number is
 * printed with the first event after that minute, or when the device is removed.
 *
 * @param print prints a line; default: failures to stderr, other lines nowhere
 */
export function deviceLog<Event extends LoggedEvent>(
  { nameOf, failures }: DeviceLogOptions<Event>,
  print: PrintLine = printFailure,
): (event: Event) => void {
  const devices = new Map<string, DeviceLog>()
  return (event) => {
    const name = nameOf(event)
    const device = devices.get(name) ?? new DeviceLog(name, failures, print)
    devices.set(name, device)
    device.tell(event)
    if (event.kind !== 'removed') return
    device.tellCounts()
    devices.delete(name)
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

class DeviceLog {
  readonly #name: string
  readonly #failures: Readonly<Record<string, string>>
  readonly #print: PrintLine
  readonly #lines = new Map<string, Line>()
  #windowEnd = -Infinity

  constructor(name: string, failures: Readonly<Record<string, string>>, print: PrintLine) {
    this.#name = name
    this.#failures = failures
    this.#print = print
  }

  tell(event: LoggedEvent): void {
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

  #lineOf(event: LoggedEvent): Line {
    const prefix = this.#failures[event.kind]
    const failed = prefix !== undefined
    const text = failed ? prefix + reasonOf(event.error) : event.kind
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

const reasonOf = (error: unknown): string =>
  error instanceof Error ? printable(error.message || error.name) : textOf(error)
