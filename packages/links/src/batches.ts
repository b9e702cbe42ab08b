/** `Batches`: batches that are reused, also by a send in the middle of another send. */
import { Frames } from '@xenkit/frames'

/** Frames of a batch. A longer batch that comes in is sent on in several. */
const CAPACITY = 256

/**
 * Batches to sort frames into. An end may answer from within its `send`, so each send takes a batch
 * of its own. There are as many batches as sends were ever nested.
 */
export class Batches {
  readonly #free: Frames[] = []

  /** Returns an empty batch, until it is given back. */
  take(memory: Uint8Array): Frames {
    const batch = this.#free.pop() ?? new Frames(CAPACITY)
    batch.reset(memory)
    return batch
  }

  give(batch: Frames): void {
    this.#free.push(batch)
  }
}
