/**
 * Converts errors for structured clone, which keeps only an error's text. Class, `code` and
 * `details` are sent as separate fields.
 */
import {
  ArenaFullError,
  type ErrorDetails,
  EvtchnError,
  GrantError,
  HypervisorClosedError,
  RingProtocolError,
  XenError,
  textOf,
} from '@xenkit/hypervisor'
import { DeviceAbandonedError } from '../abandoned.ts'

/** An error in a form that passes through structured clone. */
export interface CrossingError {
  readonly name: string
  readonly message: string
  readonly stack: string | undefined
  readonly code: string | undefined
  /** Details of a `XenError`. */
  readonly details: ErrorDetails | undefined
}

/** Classes of the errors that serving a ring can end with. */
const classes: readonly (new (
  message: string,
  details: ErrorDetails & {
    readonly status: number
    readonly errno: string
    readonly indices: never
  },
) => XenError)[] = [
  ArenaFullError,
  DeviceAbandonedError,
  EvtchnError,
  GrantError,
  HypervisorClosedError,
  RingProtocolError,
]

/** Converts an error, or any thrown value, for another thread's `unpackError`. */
export function packError(error: unknown): CrossingError {
  const { name, message, stack } = error instanceof Error ? error : new Error(textOf(error))
  const code =
    error instanceof Error && 'code' in error && typeof error.code === 'string'
      ? error.code
      : undefined
  return {
    name,
    message,
    stack,
    code,
    details: error instanceof XenError ? cloneable(error.details) : undefined,
  }
}

/**
 * Restores an error from another thread: with its code and details, and its class if known here.
 */
export function unpackError({ name, message, stack, code, details }: CrossingError): Error {
  const error =
    details === undefined ? new Error(message) : xenError(name, message, code ?? 'ERR_XEN', details)
  return Object.assign(error, { name, stack }, code === undefined ? {} : { code })
}

function xenError(name: string, message: string, code: string, details: ErrorDetails): XenError {
  const Class = classes.find((known) => known.name === name)
  return Class ? Reflect.construct(Class, [message, details]) : new XenError(code, message, details)
}

/** Details that can't be cloned are dropped: a store may have put anything into them. */
function cloneable(details: ErrorDetails): ErrorDetails {
  try {
    return structuredClone(details)
  } catch {
    return {}
  }
}
