/** Pages of other domains that lie apart, in view: a mapping each, which count as one. */
import { closeAll, type GrantRef, type MappedPages } from '@xenkit/hypervisor'
import type { Attachment } from './attachment.ts'
import { Mapping } from './mapping.ts'

export class ApartMapping implements MappedPages {
  readonly offsets: Uint32Array
  readonly #pages: Mapping[] = []

  constructor(attachment: Attachment, refs: readonly GrantRef[], writable: boolean) {
    try {
      for (const [page, ref] of refs.entries()) {
        this.#pages.push(new Mapping(attachment, [ref], { writable, mappings: page === 0 ? 1 : 0 }))
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
