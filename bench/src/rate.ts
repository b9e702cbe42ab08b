/** How many operations a second there are with some of them under way all the time. */

/**
 * @param operation is told which of the `depth` lanes it is in; the next one begins when it is done
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
