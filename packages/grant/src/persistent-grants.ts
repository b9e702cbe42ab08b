/**
 * Pages of one domain that stay mapped from one use to the next: feature-persistent of
 * xen/include/public/io/blkif.h. The other domain promises to use the same references again and to let
 * them be mapped writable; it is not told which are mapped and must not care.
 *
 * When the cache is full, the twentieth part of it that was used longest ago goes at once. What was
 * not used for a minute goes as well: a timer runs while there is anything to watch, and no longer.
 */
import { closeAll, type GrantMapping } from '@xenkit/hypervisor'
import type { GrantTable } from './grant-table.ts'

const UNUSED_MS = 60_000

interface Entry {
  readonly mapping: GrantMapping
  readonly byteOffset: number
  /** Which of all uses was its latest. */
  lastUse: number
}

export class PersistentGrants implements Disposable {
  readonly #grants: GrantTable
  readonly #domid: number
  readonly #capacity: number
  readonly #allEnded: () => number
  readonly #counted: (change: number) => void
  readonly #failed: (error: unknown) => void
  readonly #entries = new Map<number, Entry>()
  #uses = 0
  #usesAtLastSweep = 0
  /** Until all of so many uses have ended, no room is looked for. */
  #lookAt = 0
  #timer: ReturnType<typeof setTimeout> | undefined
  #closed = false

  /**
   * @param o.capacity most pages that stay mapped
   * @param o.allEnded up to which of all uses each one has ended: a page that was used later stays where it is
   * @param o.failed called when a page that is given up can't be unmapped
   * @param o.counted told by how much `size` changed
   */
  constructor(
    grants: GrantTable,
    o: {
      readonly domid: number
      readonly capacity: number
      readonly allEnded: () => number
      readonly failed: (error: unknown) => void
      readonly counted?: (change: number) => void
    },
  ) {
    this.#grants = grants
    this.#domid = o.domid
    this.#capacity = o.capacity
    this.#allEnded = o.allEnded
    this.#counted = o.counted ?? (() => {})
    this.#failed = o.failed
  }

  /** Pages mapped now. */
  get size(): number {
    return this.#entries.size
  }

  /** How often a page was used. */
  get uses(): number {
    return this.#uses
  }

  /**
   * Uses the page of a reference, mapped already or from now on.
   * @returns where it begins in the arena's buffer; undefined if there is no room, for every page that is here is or may be in use: map it for this use
   * @throws GrantError if it can't be mapped writable
   */
  use(gref: number): number | undefined {
    // As an int32 it is looked for by compiled code, as a u32 by a call.
    const entry = this.#entries.get(gref | 0) ?? this.#add(gref)
    if (!entry) return undefined
    entry.lastUse = ++this.#uses
    return entry.byteOffset
  }

  /**
   * Unmaps all. Idempotent.
   * @throws GrantError if one can't be unmapped, once all others are
   */
  close(): void {
    this.#closed = true
    clearTimeout(this.#timer)
    const mappings = [...this.#entries.values()].map(({ mapping }) => mapping)
    this.#counted(-this.#entries.size)
    this.#entries.clear()
    closeAll(mappings)
  }

  [Symbol.dispose](): void {
    this.close()
  }

  #add(gref: number): Entry | undefined {
    if (this.#closed) throw new TypeError('the cache of persistent grants is closed')
    if (this.#entries.size >= this.#capacity) this.#makeRoom()
    if (this.#entries.size >= this.#capacity) return undefined
    const mapping = this.#grants.mapNow([{ domid: this.#domid, gref }], { writable: true })
    const entry = { mapping, byteOffset: mapping.byteOffset, lastUse: 0 }
    this.#entries.set(gref | 0, entry)
    this.#counted(1)
    this.#watch()
    return entry
  }

  #makeRoom(): void {
    const ended = this.#allEnded()
    if (ended < this.#lookAt) return
    const most = Math.ceil(this.#capacity / 20)
    const unused = [...this.#entries].filter(([, { lastUse }]) => lastUse <= ended).toSorted(([, a], [, b]) => a.lastUse - b.lastUse)
    for (const [gref, entry] of unused.slice(0, most)) this.#drop(gref, entry)
    // A use that lasts is in the way. A look takes as long as many uses, and must not be taken for each.
    if (unused.length < most) this.#lookAt = ended + most
  }

  #watch(): void {
    this.#timer ??= setTimeout(() => {
      this.#timer = undefined
      this.#sweep()
    }, UNUSED_MS).unref()
  }

  #sweep(): void {
    const unused = Math.min(this.#usesAtLastSweep, this.#allEnded())
    for (const [gref, entry] of this.#entries) if (entry.lastUse <= unused) this.#drop(gref, entry)
    this.#usesAtLastSweep = this.#uses
    if (this.#entries.size > 0) this.#watch()
  }

  #drop(gref: number, { mapping }: Entry): void {
    this.#entries.delete(gref)
    this.#counted(-1)
    try {
      mapping.close()
    } catch (error) {
      this.#failed(error)
    }
  }
}
