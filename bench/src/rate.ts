/** Measures operations per second with `depth` operations in flight. */

/**
 * Runs `operation` again and again in `depth` concurrent loops; returns the operations per second.
 * @param operation called with the number of its loop, 0..depth-1
 */
export async function rate(
  o: { readonly depth: number; readonly seconds: number },
  operation: (lane: number) => Promise<unknown>,
): Promise<number> {
  const begin = performance.now()
  const end = begin + o.seconds * 1000
  let done = 0
  const drive = async (lane: number): Promise<void> => {
    while (performance.now() < end) {
      await operation(lane)
      done++
    }
  }
  await Promise.all(Array.from({ length: o.depth }, (_, lane) => drive(lane)))
  return (done * 1000) / (performance.now() - begin)
}
