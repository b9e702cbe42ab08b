/** What one disk has done since it was first offered. Kept over reconnects; reading it costs nothing. */
import { BLKIF_OP, BLKIF_RSP } from '@xenkit/wire'

export interface VbdStats {
  /** Answered requests by kind, failed ones among them. */
  readonly reads: number
  readonly writes: number
  readonly flushes: number
  /** Requests answered with an error, those for operations that aren't offered included. */
  readonly errors: number
  readonly bytesRead: number
  readonly bytesWritten: number
}

export class VbdCounters implements VbdStats {
  reads = 0
  writes = 0
  flushes = 0
  errors = 0
  bytesRead = 0
  bytesWritten = 0

  count(operation: number, status: number, bytes: number): void {
    const done = status === BLKIF_RSP.OKAY
    if (!done) this.errors++
    if (operation === BLKIF_OP.READ) {
      this.reads++
      if (done) this.bytesRead += bytes
    } else if (operation === BLKIF_OP.WRITE) {
      this.writes++
      if (done) this.bytesWritten += bytes
    } else if (operation === BLKIF_OP.FLUSH_DISKCACHE) {
      this.flushes++
      if (done) this.bytesWritten += bytes
    }
  }
}
