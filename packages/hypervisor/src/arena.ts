/**
 * The arena: one buffer in which an adapter places every page it maps, shares or allocates, so that
 * nothing is copied between them and an offset is all that a native call needs.
 */

export const PAGE_SIZE = 4096

/** A run of contiguous pages in the arena. */
export interface Pages extends Disposable {
  /** Offset of the first byte in the arena's buffer, a multiple of 4096. */
  readonly byteOffset: number
  /** The pages: a view of the arena's buffer. After `close` it must not be used; reads then give other data or 0. */
  readonly bytes: Uint8Array
  /**
   * Gives the pages back. Idempotent.
   * @throws GrantError when another domain's pages can't be unmapped: they may stay mapped
   */
  close(): void
}

export interface Arena {
  /** Never detached, never resized. Views of it may be kept for the arena's life. */
  readonly buffer: ArrayBufferLike
  /**
   * Allocates zeroed pages of this domain's own.
   * @param pages 1 or more
   * @throws ArenaFullError when no run of that length is free.
   */
  allocate(pages: number): Pages
}
