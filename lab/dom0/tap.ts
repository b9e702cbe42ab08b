/**
 * Checks whose results are printed as lines `ok - WHAT` and `not ok - WHAT: WHY`, which the
 * scenario reads.
 */

/** Runs a check. If it fails, the checks after it still run. */
export async function check(what: string, work: () => void | Promise<void>): Promise<void> {
  try {
    await work()
    console.log(`ok - ${what}`)
  } catch (error) {
    console.log(`not ok - ${what}: ${String(error).replaceAll('\n', ' ')}`)
  }
}

/** Resolves as `promise` does, or rejects after 10 s. */
export async function soon<T>(what: string, promise: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what} did not happen within 10 s`)), 10_000)
  })
  return Promise.race([promise, late]).finally(() => clearTimeout(timer))
}
