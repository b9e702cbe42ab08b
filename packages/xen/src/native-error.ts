/** Errors of the addon, told in the port's classes. */
import { constants } from 'node:os'
import { ArenaFullError, HypervisorClosedError } from '@xenkit/hypervisor'

const errnos = new Map<string, number>(Object.entries(constants.errno))

export interface NativeError {
  readonly message: string
  /** Name of an errno; `EIO` where the addon knows none. */
  readonly errno: string
  /** Its negative number. */
  readonly status: number
}

/**
 * What a system call answered. Rethrows what isn't one: a caller's mistake as RangeError, a full
 * arena, a closed hypervisor, a foreign error as it is.
 */
export function asNativeError(error: unknown): NativeError {
  const code = codeOf(error)
  if (!(error instanceof Error) || code === undefined) throw error
  switch (code) {
    case 'ERR_OUT_OF_RANGE':
      throw new RangeError(error.message, { cause: error })
    case 'ERR_ARENA_FULL':
      throw new ArenaFullError(error.message, {}, { cause: error })
    case 'ERR_CLOSED':
      throw new HypervisorClosedError(
        'the hypervisor was closed in this thread',
        {},
        { cause: error },
      )
  }
  const number = errnos.get(code)
  if (number === undefined) throw error
  return { message: error.message, errno: code, status: -number }
}

/** The `code` of an error of Node's or the addon's. */
export function codeOf(error: unknown): string | undefined {
  return error instanceof Error && 'code' in error && typeof error.code === 'string'
    ? error.code
    : undefined
}

/** Runs an addon call; what it throws is given to `explain`, which throws the port's error. */
export function translated<T>(call: () => T, explain: (error: NativeError) => Error): T {
  try {
    return call()
  } catch (error) {
    throw explain(asNativeError(error))
  }
}
