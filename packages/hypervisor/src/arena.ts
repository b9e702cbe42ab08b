/**
 * The arena: one buffer in which an adapter places every page it maps, shares or allocates, so that
 * nothing is copied between them and an offset is all that a native call needs.
 */

export const PAGE_SIZE = 4096

/** A run of contiguous pages in the arena. */
export interface Pages extends Disposable {
  /** Offset of the first byte in the arena's buffer, a multiple of 4096. */
  readonly byteOffset: number
  /**
   * The pages: a view of the arena's buffer. After `close` it must not be used; reads then give
   * other data or 0.
   */
  readonly bytes: Uint8Array
  /**
   * Gives the pages back. Idempotent.
   * @throws GrantError when another domain's pages can't be unmapped: they may stay mapped
   */
  close(): void
}

/** Who holds pages of an arena on behalf of another domain. */
export interface ArenaTenant {
  readonly domid: number
  /** Pages that stay mapped between requests, idle ones among them. */
  readonly cached: number
  /** Pages for requests in flight. */
  readonly working: number
  /** Gives back idle pages: so many cached ones, if there are, and all idle buffers. */
  reclaim(cached: number): void
}

/** What an adapter's arena holds unless the caller says otherwise, in pages: 256 MiB. */
export const DEFAULT_ARENA_PAGES = 65_536

export interface Arena {
  /** Never detached, never resized. Views of it may be kept for the arena's life. */
  readonly buffer: ArrayBufferLike
  /** Pages that can be mapped, shared and allocated at a time. */
  readonly pages: number
  /** Mappings, of any number of pages, that can exist at a time. */
  readonly mappings: number
  /** Those who hold pages for other domains. They add and remove themselves. */
  readonly tenants: Set<ArenaTenant>
  /** Called once, by the tenant that gives back pages: there may be room now. Oldest first. */
  readonly waiting: Set<() => void>
  /**
   * Allocates zeroed pages of this domain's own.
   * @param pages 1 or more
   * @throws ArenaFullError when no run of that length is free.
   */
  allocate(pages: number): Pages
  /**
   * Keeps what is mapped, shared or allocated as it is, though the hypervisor is closed, until the
   * hold is disposed of: something that can't be stopped still reads or writes there. Each run can
   * be closed by itself meanwhile.
   */
  hold(): Disposable
}
