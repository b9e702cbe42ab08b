/** Several things that end together, of which each may fail to: all are ended, no error is lost. */

type Closables = Iterable<{ close(): void }>

/**
 * Closes each of them, though some fail to.
 * @throws what the first of those threw, once all others are closed
 */
export function closeAll(all: Closables): void {
  const errors = closeEach(all)
  if (errors.length > 0) throw firstOf(errors)
}

/** As `closeAll`. @returns what those that fail threw */
export function closeEach(all: Closables): unknown[] {
  const errors: unknown[] = []
  for (const each of all) {
    try {
      each.close()
    } catch (error) {
      errors.push(error)
    }
  }
  return errors
}

/** Waits for all of them. @returns what those that reject are rejected with */
export async function failuresOf(all: readonly Promise<unknown>[]): Promise<unknown[]> {
  const results = await Promise.allSettled(all)
  return results.flatMap((result) => (result.status === 'rejected' ? [result.reason] : []))
}

/**
 * The error to throw of several: the first, for others come of it, or of cleaning up after it. They
 * are its `suppressed`, which Node prints with it.
 */
export function firstOf([first, ...suppressed]: readonly unknown[]): unknown {
  if (suppressed.length > 0 && first instanceof Error) Reflect.set(first, 'suppressed', suppressed)
  return first
}
