/**
 * Counts how much of its arena a SimDomain uses. Pages may be anywhere in machine memory, so only
 * their number is limited, as an arena on Xen is limited.
 */
import { ArenaFullError, DEFAULT_ARENA_PAGES, expectInteger, PAGE_SIZE } from '@xenkit/hypervisor'

/** Size of a domain's arena. */
export interface ArenaLimits {
  /** Most pages mapped, shared and allocated at one time, 1..1048576. Default: 65536. */
  readonly pages?: number
  /** Most mappings at one time, 1..1048576. Default: 16382, as with Linux's defaults. */
  readonly mappings?: number
}

interface Use {
  readonly pages: number
  readonly mappings?: number
}

/** Counts the free pages and mappings of one arena. */
export class ArenaRoom {
  readonly pages: number
  readonly mappings: number
  #pagesUsed = 0
  #mappingsUsed = 0

  constructor({ pages = DEFAULT_ARENA_PAGES, mappings = 16_382 }: ArenaLimits = {}) {
    expectInteger('arena.pages', pages, 1, 2 ** 32 / PAGE_SIZE)
    expectInteger('arena.mappings', mappings, 1, 2 ** 32 / PAGE_SIZE)
    this.pages = pages
    this.mappings = mappings
  }

  /**
   * Reserves room for the pages that `make` creates. If `make` throws, nothing stays reserved.
   * @throws ArenaFullError if the arena has less room left
   */
  take<T>({ pages, mappings = 0 }: Use, make: () => T): T {
    const left = this.pages - this.#pagesUsed
    if (pages > left) {
      const text = `no room for ${pages} pages in the arena: ${left} of ${this.pages} are free`
      throw new ArenaFullError(text, { pages })
    }
    if (this.#mappingsUsed + mappings > this.mappings) {
      throw new ArenaFullError(`all ${this.mappings} mappings of the arena are in use`, { pages })
    }
    const made = make()
    this.#pagesUsed += pages
    this.#mappingsUsed += mappings
    return made
  }

  give({ pages, mappings = 0 }: Use): void {
    this.#pagesUsed -= pages
    this.#mappingsUsed -= mappings
  }
}
