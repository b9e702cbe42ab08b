// Opens block engines of either kind on a kernel that may lack memory for io_uring.

// The kernel frees the io_urings of ended threads late, and refuses new ones with ENOMEM until
// then. Threads then run the jobs, as they do by default where io_uring is refused, and a warning
// is printed.
export function newEngine({ BlockEngine }, memory, onDone, kind) {
  try {
    return new BlockEngine(memory, onDone, kind)
  } catch (error) {
    if (kind !== 'io_uring' || error.code !== 'ENOMEM') throw error
    console.warn(`${error.message}: threads serve in its place`)
    return new BlockEngine(memory, onDone, 'threads')
  }
}
