/**
 * Closes each of them, though some fail to.
 * @throws what the first of those threw, once all others are closed
 */
export function closeAll(all: Iterable<{ close(): void }>): void {
  let failure: { readonly error: unknown } | undefined
  for (const each of all) {
    try {
      each.close()
    } catch (error) {
      failure ??= { error }
    }
  }
  if (failure) throw failure.error
}
