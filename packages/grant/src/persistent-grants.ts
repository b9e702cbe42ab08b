/**
 * Pages of one domain that stay mapped from one use to the next: feature-persistent of
 * xen/include/public/io/blkif.h. The other domain promises to use the same references again and to let
 * them be mapped writable; it is not told which are mapped and must not care.
 *
 * When the cache is full, the twentieth part of it that was used longest ago goes at once. What was
 * not used for a minute goes as well: a timer runs while there is anything to watch, and no longer.
 */
import type { GrantMapping } from '@xenkit/hypervisor'
import type { GrantTable } from './grant-table.ts'

const UNUSED_MS = 60_000

export interface PersistentGrant {
  readonly gref: number
  /** The page, and where it begins in the arena's buffer. */
  readonly bytes: Uint8Array
  readonly byteOffset: number
}

class Entry implements PersistentGrant {
  readonly gref: number
  readonly bytes: Uint8Array
  readonly byteOffset: number
  readonly mapping: GrantMapping
  /** Uses that have not been released. */
  users = 0
  /** When it was last used, counted in uses of the cache. */
  lastUse = 0

  constructor(gref: number, mapping: GrantMapping) {
    this.gref = gref
    this.bytes = mapping.bytes
    this.byteOffset = mapping.byteOffset
    this.mapping = mapping
  }
}

export class PersistentGrants implements Disposable {
  readonly #grants: GrantTable
  readonly #domid: number
  readonly #capacity: number
  readonly #counted: (change: number) => void
  readonly #entries = new Map<number, Entry>()
  #uses = 0
  #usesAtLastSweep = 0
  #timer: ReturnType<typeof setTimeout> | undefined
  #closed = false

  /**
   * @param o.capacity most pages that stay mapped
   * @param o.counted told by how much `size` changed
   */
  constructor(grants: GrantTable, o: { readonly domid: number; readonly capacity: number; readonly counted?: (change: number) => void }) {
    this.#grants = grants
    this.#domid = o.domid
    this.#capacity = o.capacity
    this.#counted = o.counted ?? (() => {})
  }

  /** Pages mapped now. */
  get size(): number {
    return this.#entries.size
  }

  /**
   * The page of a reference, mapped already or from now on, until `release`.
   * @returns undefined if every page is in use and there is room for no other: map it for this use
   * @throws GrantError if it can't be mapped writable
   */
  use(gref: number): PersistentGrant | undefined {
    const entry = this.#entries.get(gref) ?? this.#add(gref)
    if (!entry) return undefined
    entry.users++
    entry.lastUse = ++this.#uses
    return entry
  }

  release(grant: PersistentGrant): void {
    // Not looked up: that took as long as all else of a use.
    if (grant instanceof Entry) grant.users--
  }

  /** Unmaps all. Idempotent. */
  close(): void {
    this.#closed = true
    clearTimeout(this.#timer)
    for (const entry of this.#entries.values()) this.#drop(entry)
  }

  [Symbol.dispose](): void {
    this.close()
  }

  #add(gref: number): Entry | undefined {
    if (this.#closed) throw new TypeError('the cache of persistent grants is closed')
    if (this.#entries.size >= this.#capacity) this.#makeRoom()
    if (this.#entries.size >= this.#capacity) return undefined
    const mapping = this.#grants.mapNow([{ domid: this.#domid, gref }], { writable: true })
    const entry = new Entry(gref, mapping)
    this.#entries.set(gref, entry)
    this.#counted(1)
    this.#watch()
    return entry
  }

  #makeRoom(): void {
    const unused = [...this.#entries.values()].filter(({ users }) => users === 0).toSorted((a, b) => a.lastUse - b.lastUse)
    for (const entry of unused.slice(0, Math.ceil(this.#capacity / 20))) this.#drop(entry)
  }

  #watch(): void {
    this.#timer ??= setTimeout(() => {
      this.#timer = undefined
      this.#sweep()
    }, UNUSED_MS).unref()
  }

  #sweep(): void {
    for (const entry of this.#entries.values()) if (entry.users === 0 && entry.lastUse <= this.#usesAtLastSweep) this.#drop(entry)
    this.#usesAtLastSweep = this.#uses
    if (this.#entries.size > 0) this.#watch()
  }

  #drop(entry: Entry): void {
    this.#entries.delete(entry.gref)
    this.#counted(-1)
    entry.mapping.close()
  }
}
