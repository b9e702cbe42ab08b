/**
 * Closes several resources even if closing one of them fails. All are closed, and no error is lost.
 */

type Closables = Iterable<{ close(): void }>

/**
 * Closes all resources, even after one has failed.
 * @throws the first error, once all the others are closed; see `firstOf`
 */
export function closeAll(all: Closables): void {
  const errors = closeEach(all)
  if (errors.length > 0) throw firstOf(errors)
}

/**
 * Closes all resources, even after one has failed.
 * @returns the errors, in order
 */
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

/**
 * Waits until all promises are settled.
 * @returns the reasons of the rejected promises, in order
 */
export async function failuresOf(all: readonly Promise<unknown>[]): Promise<unknown[]> {
  const results = await Promise.allSettled(all)
  return results.flatMap((result) => (result.status === 'rejected' ? [result.reason] : []))
}

/**
 * Picks one of several errors to throw: the first, because the others tend to follow from it or
 * from the clean-up. The others become its `suppressed` property, which Node prints with it.
 */
export function firstOf([first, ...suppressed]: readonly unknown[]): unknown {
  if (suppressed.length > 0 && first instanceof Error) Reflect.set(first, 'suppressed', suppressed)
  return first
}
