import { UsageError } from './usage-error.ts'

/** Waits for `work` for at most `ms` milliseconds. @throws UsageError with `text` after that */
export async function timeLimit<T>(ms: number, text: string, work: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new UsageError(text)), ms)
  })
  // After the timeout the connection is closed, which makes `work` fail: ignore that error.
  work.catch(() => {})
  return Promise.race([work, late]).finally(() => clearTimeout(timer))
}
