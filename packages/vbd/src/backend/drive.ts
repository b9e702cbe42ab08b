/**
 * A CD-ROM drive as a store. Its medium may be absent, which is a disk of 0 sectors, and may change
 * while a guest is connected. Guests see a change of size: the protocol has no event for a change
 * of medium.
 */
import { XenError } from '@xenkit/hypervisor'
import type { BlockStore, StoreResult } from '@xenkit/block-store'

/** The drive has no medium, or one that ends before the sectors of a request. */
export class NoMediumError extends XenError {
  constructor(details: { readonly sector: number; readonly sectors: number }) {
    super(
      'ERR_XEN_NO_MEDIUM',
      details.sectors === 0
        ? 'there is no medium in the drive'
        : `the read at sector ${details.sector} exceeds the medium's ${details.sectors} sectors`,
      details,
    )
  }
}

export class Drive implements BlockStore {
  #medium: BlockStore | undefined
  /** Reads of the medium in flight. */
  readonly #reads = new Set<Promise<unknown>>()
  readonly #listeners = new Set<() => void>()

  constructor(medium: BlockStore | undefined) {
    this.#medium = medium
  }

  get sectors(): number {
    return this.#medium?.sectors ?? 0
  }

  async read(sector: number, into: Uint8Array[]): Promise<StoreResult> {
    const bytes = into.reduce((sum, { length }) => sum + length, 0)
    // The request was checked against an earlier medium, which may have been larger.
    if (!this.#medium || sector + bytes / 512 > this.sectors) {
      throw new NoMediumError({ sector, sectors: this.sectors })
    }
    const reading = Promise.resolve(this.#medium.read(sector, into))
    this.#reads.add(reading)
    try {
      return await reading
    } finally {
      this.#reads.delete(reading)
    }
  }

  onResize(listener: () => void): Disposable {
    this.#listeners.add(listener)
    return { [Symbol.dispose]: () => void this.#listeners.delete(listener) }
  }

  /** Changes the medium. Resolves once no read of the former one is in flight. */
  async change(medium: BlockStore | undefined): Promise<void> {
    this.#medium = medium
    for (const listener of this.#listeners) listener()
    await Promise.allSettled(this.#reads)
  }
}
