/** Ends a command with one line that says why, without a stack. */
export class UsageError extends Error {
  override readonly name = 'UsageError'
}

/**
 * Whether an error's text is all that the user of a command needs. It is known by its code, since
 * errors lose their class on the way from another thread.
 */
export function isOneLine(error: unknown): error is Error {
  if (!(error instanceof Error)) return false
  const { code, syscall }: NodeJS.ErrnoException = error
  return error instanceof UsageError || String(code).startsWith('ERR_XEN_') || syscall !== undefined
}
