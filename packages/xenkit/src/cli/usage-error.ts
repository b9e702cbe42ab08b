/** An error that ends a command with one line, without a stack. */
export class UsageError extends Error {
  override readonly name = 'UsageError'
}

/**
 * Whether the error's text alone is enough for a command's user. Such errors are recognised by
 * their code, because errors from another thread lose their class.
 */
export function isOneLine(error: unknown): error is Error {
  if (!(error instanceof Error)) return false
  const { code, syscall }: NodeJS.ErrnoException = error
  return error instanceof UsageError || String(code).startsWith('ERR_XEN_') || syscall !== undefined
}
