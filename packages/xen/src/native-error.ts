/** Converts errors of the addon into the error classes of the hypervisor port. */
import { constants } from 'node:os'
import { ArenaFullError, HypervisorClosedError } from '@xenkit/hypervisor'

const errnos = new Map<string, number>(Object.entries(constants.errno))

/** Failure of a system call, as the addon reports it. */
export interface NativeError {
  readonly message: string
  /** Errno name; `EIO` if the addon doesn't know the errno. */
  readonly errno: string
  /** The errno as a negative number. */
  readonly status: number
}

/**
 * Returns the result of a failed system call. Rethrows any other error: RangeError for a caller's
 * mistake, ArenaFullError, HypervisorClosedError, or the error itself.
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

/** Returns the `code` of an error of Node or the addon. */
export function codeOf(error: unknown): string | undefined {
  return error instanceof Error && 'code' in error && typeof error.code === 'string'
    ? error.code
    : undefined
}

/** Runs an addon call. If it fails, throws the error that `explain` returns. */
export function translated<T>(call: () => T, explain: (error: NativeError) => Error): T {
  try {
    return call()
  } catch (error) {
    throw explain(asNativeError(error))
  }
}
