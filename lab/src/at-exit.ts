/**
 * Callbacks that run however this process ends, except by SIGKILL: on return, on an exception, on
 * Ctrl-C, on a supervisor's SIGTERM. They are synchronous, because an exiting process runs nothing
 * else.
 */
const deeds = new Set<() => void>()

/**
 * Registers a callback. Returns a function that unregisters the callback: call that once the
 * callback's work has been done elsewhere.
 */
export function atExit(deed: () => void): () => void {
  deeds.add(deed)
  return () => deeds.delete(deed)
}

process.on('exit', () => {
  for (const deed of deeds) deed()
})

// By default a signal ends the process without an 'exit' event. 128 + number is the shell's
// convention.
for (const [signal, number] of [
  ['SIGHUP', 1],
  ['SIGINT', 2],
  ['SIGTERM', 15],
] as const) {
  process.once(signal, () => process.exit(128 + number))
}
