/**
 * A disk's share of Node's thread pool, which does flushes and discards first come first served:
 * one of either at a time. However many its guest asks for, another disk's wait for one.
 */

type Work = () => Promise<void>

/** Calls during a run share the next one, which begins after all of them: as flushes may. */
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

/** Runs one call at a time, in their order. */
export function oneByOne(): (work: Work) => Promise<void> {
  let last = Promise.resolve()
  return (work) => {
    last = last.then(work, work)
    return last
  }
}
