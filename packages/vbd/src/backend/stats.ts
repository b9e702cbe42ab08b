/** What one disk has done since it was first offered. Kept over reconnects; reading it costs nothing. */
import type { PersistentGrants } from '@xenkit/grant'
import { BLKIF_OP, BLKIF_RSP } from '@xenkit/wire'
import type { DataPathKind } from './data-path.ts'
import type { Requests } from './requests.ts'

export interface VbdStats {
  /** Answered requests by kind, failed ones among them; those that aren't offered are errors only. */
  readonly reads: number
  readonly writes: number
  readonly flushes: number
  readonly barriers: number
  readonly discards: number
  /** Those of the reads and writes whose segments came in pages of their own. */
  readonly indirect: number
  /** Requests answered with an error, those for operations that aren't offered included. */
  readonly errors: number
  readonly bytesRead: number
  readonly bytesWritten: number
  /** As the guest asked for it: the store may have been given less. */
  readonly bytesDiscarded: number
  /** How data is moved; undefined while the disk isn't connected. */
  readonly dataPath: DataPathKind | undefined
  /** Rings in use, 0 while the disk isn't connected. */
  readonly queues: number
  /** Pages of the guest's that stay mapped between requests. */
  readonly persistentGrants: number
}

export class VbdCounters implements VbdStats {
  reads = 0
  writes = 0
  flushes = 0
  barriers = 0
  discards = 0
  indirect = 0
  errors = 0
  bytesRead = 0
  bytesWritten = 0
  bytesDiscarded = 0
  dataPath: DataPathKind | undefined
  queues = 0
  #caches: readonly PersistentGrants[] = []

  get persistentGrants(): number {
    return this.#caches.reduce((sum, { size }) => sum + size, 0)
  }

  connected(o: { readonly dataPath: DataPathKind; readonly queues: number; readonly caches: readonly PersistentGrants[] }): void {
    this.dataPath = o.dataPath
    this.queues = o.queues
    this.#caches = o.caches
  }

  disconnected(): void {
    this.dataPath = undefined
    this.queues = 0
    this.#caches = []
  }

  /** Counts a request whose status is known. */
  count(requests: Requests, row: number): void {
    const done = requests.status[row] === BLKIF_RSP.OKAY
    const bytes = done ? (requests.bytes[row] ?? 0) : 0
    if (!done) this.errors++
    this.indirect += requests.indirect[row] ?? 0
    switch (requests.operation[row]) {
      case BLKIF_OP.READ:
        this.reads++
        this.bytesRead += bytes
        break
      case BLKIF_OP.WRITE:
        this.writes++
        this.bytesWritten += bytes
        break
      case BLKIF_OP.WRITE_BARRIER:
        this.barriers++
        this.bytesWritten += bytes
        break
      case BLKIF_OP.FLUSH_DISKCACHE:
        this.flushes++
        this.bytesWritten += bytes
        break
      case BLKIF_OP.DISCARD:
        this.discards++
        this.bytesDiscarded += bytes
        break
    }
  }
}
