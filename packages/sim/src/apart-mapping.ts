/** Granted pages that lie apart in memory: one mapping per page, counted as one mapping. */
import { closeAll, type GrantRef, type MapPagesOptions, type MappedPages } from '@xenkit/hypervisor'
import type { Attachment } from './attachment.ts'
import { Mapping } from './mapping.ts'

/** Implements `MappedPages`, the result of `GrantPort.mapPages`. */
export class ApartMapping implements MappedPages {
  readonly offsets: Uint32Array
  readonly #pages: Mapping[] = []

  constructor(attachment: Attachment, refs: readonly GrantRef[], o: MapPagesOptions) {
    try {
      for (const [page, ref] of refs.entries()) {
        this.#pages.push(new Mapping(attachment, [ref], { ...o, mappings: page === 0 ? 1 : 0 }))
      }
    } catch (error) {
      this.close()
      throw error
    }
    this.offsets = Uint32Array.from(this.#pages, ({ byteOffset }) => byteOffset)
  }

  close(): void {
    closeAll(this.#pages)
  }

  [Symbol.dispose](): void {
    this.close()
  }
}
