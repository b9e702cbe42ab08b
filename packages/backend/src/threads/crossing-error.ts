/**
 * Errors between threads. Structured clone leaves of an error what it says; who is to blame (its
 * class), `code` and `details` go beside.
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

/** An error as it goes through structured clone. */
export interface CrossingError {
  readonly name: string
  readonly message: string
  readonly stack: string | undefined
  readonly code: string | undefined
  /** Of a `XenError`. */
  readonly details: ErrorDetails | undefined
}

/** What serving a ring ends with. */
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

/** Makes a message of an error, of which `unpackError` makes an error in another thread. */
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

/** Makes an error of the same class, with code and details, if the class is known here. */
export function unpackError({ name, message, stack, code, details }: CrossingError): Error {
  const error =
    details === undefined ? new Error(message) : xenError(name, message, code ?? 'ERR_XEN', details)
  return Object.assign(error, { name, stack }, code === undefined ? {} : { code })
}

function xenError(name: string, message: string, code: string, details: ErrorDetails): XenError {
  const Class = classes.find((known) => known.name === name)
  return Class ? Reflect.construct(Class, [message, details]) : new XenError(code, message, details)
}

/** A store may have put anything into them. */
function cloneable(details: ErrorDetails): ErrorDetails {
  try {
    return structuredClone(details)
  } catch {
    return {}
  }
}
