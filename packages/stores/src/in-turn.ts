/**
 * Limits a disk to one flush and one discard at a time in Node's thread pool, which is first come,
 * first served. However many a guest requests, another disk waits for one.
 */

type Work = () => Promise<void>

/** Merges calls: all that come during a run share the next run, as flushes may. */
export function shared(work: Work): Work {
  let running: Promise<void> | undefined
  let next: Promise<void> | undefined
  const run = (): Promise<void> => {
    next = undefined
    running = work().finally(() => (running = undefined))
    return running
  }
  return () => {
    if (next) return next
    if (!running) return run()
    next = running.then(run, run)
    return next
  }
}

/** Runs one call at a time, in order. */
export function oneByOne(): (work: Work) => Promise<void> {
  let last = Promise.resolve()
  return (work) => {
    last = last.then(work, work)
    return last
  }
}
