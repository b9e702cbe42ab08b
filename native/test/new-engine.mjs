// Block engines of either kind, on a kernel that may be short of memory for one of them.

// The kernel frees the rings of ended threads late, and answers ENOMEM to new ones for a while:
// then threads serve, as they do where nobody asks for a kind, and a line says so.
export function newEngine({ BlockEngine }, memory, onDone, kind) {
  try {
    return new BlockEngine(memory, onDone, kind)
  } catch (error) {
    if (kind !== 'io_uring' || error.code !== 'ENOMEM') throw error
    console.warn(`${error.message}: threads serve in its place`)
    return new BlockEngine(memory, onDone, 'threads')
  }
}
