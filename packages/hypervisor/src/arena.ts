/**
 * The arena: one buffer in which an adapter places every page that it maps, shares or allocates. So
 * no data is copied between buffers, and a native call needs only an offset.
 */

/**
 * Bytes of a page. Xen's interfaces count in 4 KiB pages, whatever the guest's own page size is.
 */
export const PAGE_SIZE = 4096

/** A run of contiguous pages in the arena. */
export interface Pages extends Disposable {
  /** Offset of the first byte in the arena's buffer, a multiple of 4096. */
  readonly byteOffset: number
  /**
   * The pages, as a view of the arena's buffer. Don't use it after `close`: reads then return other
   * data or 0.
   */
  readonly bytes: Uint8Array
  /**
   * Unmaps or frees the pages. Idempotent.
   * @throws GrantError when another domain's pages can't be unmapped; they may stay mapped
   */
  close(): void
}

/**
 * A device's connection that holds pages of an arena on behalf of another domain. When the arena is
 * full, it is asked to give up idle pages.
 */
export interface ArenaTenant {
  readonly domid: number
  /** Pages that stay mapped between requests, including those that a request uses now. */
  readonly cached: number
  /** Pages used by requests in flight. */
  readonly working: number
  /** Gives up idle pages: up to `cached` of the cached pages, and all idle buffers. */
  reclaim(cached: number): void
}

/** Default size of an adapter's arena in pages: 256 MiB. */
export const DEFAULT_ARENA_PAGES = 65_536

/** An adapter's memory: one buffer, and the limits of what fits in it. */
export interface Arena {
  /**
   * The memory itself. Never detached and never resized: keep views of it as long as the arena
   * lives.
   */
  readonly buffer: ArrayBufferLike
  /** Most pages that can be mapped, shared and allocated at one time. */
  readonly pages: number
  /** Most mappings that can exist at one time, whatever their sizes. */
  readonly mappings: number
  /** Connections that hold pages for other domains. Each connection adds and removes itself. */
  readonly tenants: Set<ArenaTenant>
  /**
   * Callbacks that wait for room in the arena, oldest first. Each is called once, when a tenant has
   * freed pages.
   */
  readonly waiting: Set<() => void>
  /**
   * Allocates zeroed pages that no other domain sees.
   * @param pages 1 or more
   * @throws ArenaFullError when no run of that length is free
   */
  allocate(pages: number): Pages
  /**
   * Keeps all pages in place, even after the hypervisor is closed, until the result is disposed of.
   * Take a hold while an operation that can't be cancelled still reads or writes the arena. Closing
   * single runs of pages works in the meantime.
   */
  hold(): Disposable
}
