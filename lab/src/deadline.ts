/** Timeouts, so that nothing in the lab waits for ever. */

/**
 * Settles as `promise` does, or rejects after `seconds` with an error that names what was awaited.
 */
export async function within<T>(seconds: number, awaited: string, promise: Promise<T>): Promise<T> {
  const { promise: late, reject } = withResolvers<never>()
  const timer = setTimeout(
    () => reject(new Error(`${awaited}: not within ${seconds} s`)),
    seconds * 1000,
  )
  try {
    return await Promise.race([promise, late])
  } finally {
    clearTimeout(timer)
  }
}

const ignore = (): void => {}

/** Promise.withResolvers, which Node lacks before version 22. */
export function withResolvers<T>(): {
  promise: Promise<T>
  resolve: (value: T) => void
  reject: (error: Error) => void
} {
  let resolve: (value: T) => void = ignore
  let reject: (error: Error) => void = ignore
  const promise = new Promise<T>((yes, no) => {
    resolve = yes
    reject = no
  })
  return { promise, resolve, reject }
}
