/** What the user of a command can mend. Printed as one line, without a stack. */
export class UsageError extends Error {
  override readonly name = 'UsageError'
}
