/** Mappings and shares that notify their grant table when their pages are actually released. */
import type { GrantMapping, GrantShare, MappedPages, UnmapNotify } from '@xenkit/hypervisor'

/** A contiguous mapping that calls `released` once it is unmapped. */
export class TrackedMapping implements GrantMapping {
  readonly byteOffset: number
  readonly bytes: Uint8Array
  readonly #mapping: GrantMapping
  readonly #released: () => void
  #closed = false

  constructor(mapping: GrantMapping, released: () => void) {
    this.#mapping = mapping
    this.#released = released
    this.byteOffset = mapping.byteOffset
    this.bytes = mapping.bytes
  }

  notifyOnUnmap(o: UnmapNotify): void {
    this.#mapping.notifyOnUnmap(o)
  }

  close(): void {
    if (this.#closed) return
    this.#closed = true
    try {
      this.#mapping.close()
    } finally {
      // The pages count as released even if the unmap failed: nobody can retry it.
      this.#released()
    }
  }

  [Symbol.dispose](): void {
    this.close()
  }
}

/** Separately mapped pages that call `released` once they are unmapped. */
export class TrackedPages implements MappedPages {
  readonly offsets: Uint32Array
  readonly #pages: MappedPages
  readonly #released: () => void
  #closed = false

  constructor(pages: MappedPages, released: () => void) {
    this.offsets = pages.offsets
    this.#pages = pages
    this.#released = released
  }

  close(): void {
    if (this.#closed) return
    this.#closed = true
    try {
      this.#pages.close()
    } finally {
      // The pages count as released even if the unmap failed: nobody can retry it.
      this.#released()
    }
  }

  [Symbol.dispose](): void {
    this.close()
  }
}

/** A share that calls `released` once its grants have ended. */
export class TrackedShare implements GrantShare {
  readonly byteOffset: number
  readonly bytes: Uint8Array
  readonly grefs: Uint32Array
  readonly #share: GrantShare
  readonly #released: () => void

  constructor(share: GrantShare, released: () => void) {
    this.#share = share
    this.#released = released
    this.byteOffset = share.byteOffset
    this.bytes = share.bytes
    this.grefs = share.grefs
  }

  notifyOnUnmap(o: UnmapNotify): void {
    this.#share.notifyOnUnmap(o)
  }

  close(): void {
    this.#share.close()
    this.#released()
  }

  [Symbol.dispose](): void {
    this.close()
  }
}
