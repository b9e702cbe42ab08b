/** Counts the bytes allocated on the JavaScript heap, including bytes that were freed since. */
import { GCProfiler, setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'

setFlagsFromString('--expose-gc')
/**
 * Runs the garbage collector. A context that is created after the flag is set has `gc`, even if the
 * program was started without the flag.
 */
const collectGarbage: () => void = runInNewContext('gc')

export class HeapMeter {
  #profiler = new GCProfiler()
  #used = 0

  /**
   * Starts to count.
   * @returns 0
   */
  begin(): number {
    collectGarbage()
    this.#profiler = new GCProfiler()
    this.#profiler.start()
    this.#used = process.memoryUsage().heapUsed
    return 0
  }

  /**
   * Stops counting.
   * @returns bytes allocated since `begin`: the heap's growth plus what collections freed in
   *   between
   */
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
