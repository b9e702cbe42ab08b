/** How many bytes are allocated on the JavaScript heap, freed since or not. */
import { GCProfiler, setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'

setFlagsFromString('--expose-gc')
/** A context made after that has the function, whatever flags the program was started with. */
const collectGarbage: () => void = runInNewContext('gc')

export class HeapMeter {
  #profiler = new GCProfiler()
  #used = 0

  /** @returns 0 */
  begin(): number {
    collectGarbage()
    this.#profiler = new GCProfiler()
    this.#profiler.start()
    this.#used = process.memoryUsage().heapUsed
    return 0
  }

  /** @returns bytes since `begin`: what is there more, and what collections in between took away */
  end(): number {
    const used = process.memoryUsage().heapUsed
    const { statistics } = this.#profiler.stop()
    const collected = statistics.map(
      ({ beforeGC, afterGC }) =>
        beforeGC.heapStatistics.usedHeapSize - afterGC.heapStatistics.usedHeapSize,
    )
    return used - this.#used + collected.reduce((sum, bytes) => sum + bytes, 0)
  }
}
