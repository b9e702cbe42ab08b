/** Checks as lines `ok - WHAT` and `not ok - WHAT: WHY`, which the scenario reads. */

/** Runs a check; one that fails doesn't end the rest. */
export async function check(what: string, work: () => void | Promise<void>): Promise<void> {
  try {
    await work()
    console.log(`ok - ${what}`)
  } catch (error) {
    console.log(`not ok - ${what}: ${String(error).replaceAll('\n', ' ')}`)
  }
}

/** Waits for something that must happen soon, or fails. */
export async function soon<T>(what: string, promise: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what} did not happen within 10 s`)), 10_000)
  })
  return Promise.race([promise, late]).finally(() => clearTimeout(timer))
}
