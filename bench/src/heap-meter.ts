/** How many bytes are allocated on the JavaScript heap, freed since or not. */
import { GCProfiler } from 'node:v8'

export class HeapMeter {
  #profiler = new GCProfiler()
  #used = 0

  /** Needs --expose-gc. @returns 0 */
  begin(): number {
    const { gc } = globalThis
    if (!gc) throw new Error('this needs --expose-gc')
    gc()
    this.#profiler = new GCProfiler()
    this.#profiler.start()
    this.#used = process.memoryUsage().heapUsed
    return 0
  }

  /** @returns bytes since `begin`: what is there more, and what collections in between took away */
  end(): number {
    const used = process.memoryUsage().heapUsed
    const { statistics } = this.#profiler.stop()
    const collected = statistics.map(({ beforeGC, afterGC }) => beforeGC.heapStatistics.usedHeapSize - afterGC.heapStatistics.usedHeapSize)
    return used - this.#used + collected.reduce((sum, bytes) => sum + bytes, 0)
  }
}
