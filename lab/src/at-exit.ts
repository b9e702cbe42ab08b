/**
 * What must happen however this process ends, short of SIGKILL: on return, on an exception, on
 * Ctrl-C, on a supervisor's SIGTERM. Deeds are synchronous because nothing else runs while a
 * process exits.
 */
const deeds = new Set<() => void>()

/**
 * Registers a deed and returns what takes it back: call that once the deed has been done by other
 * means.
 */
export function atExit(deed: () => void): () => void {
  deeds.add(deed)
  return () => deeds.delete(deed)
}

process.on('exit', () => {
  for (const deed of deeds) deed()
})

// A signal's default action ends the process without an 'exit' event. 128 + number is the shell's
// convention.
for (const [signal, number] of [
  ['SIGHUP', 1],
  ['SIGINT', 2],
  ['SIGTERM', 15],
] as const) {
  process.once(signal, () => process.exit(128 + number))
}
