const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const

/**
 * Returns a signal that the first SIGINT, SIGTERM or SIGHUP aborts. A second one ends the process
 * immediately.
 */
export function interrupted(): AbortSignal {
  const controller = new AbortController()
  for (const name of SIGNALS) process.once(name, () => controller.abort())
  return controller.signal
}
