/**
 * Limits a disk to one flush and one discard at a time in Node's thread pool, whose queue is first
 * come, first served. Another disk then waits for one of them at most, however many a guest
 * requests.
 */

type Work = () => Promise<void>

/**
 * Merges concurrent calls: all that come during a run share the next run. One flush covers them
 * all.
 */
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

/** Returns a function that runs the given work one call at a time, in order. */
export function oneByOne(): (work: Work) => Promise<void> {
  let last = Promise.resolve()
  return (work) => {
    last = last.then(work, work)
    return last
  }
}
