/** Grants of one domain and thread. */
import {
  DOMID_MAX,
  expectInteger,
  type GrantCopyBatch,
  type GrantMapping,
  type GrantPort,
  type GrantRef,
  type GrantShare,
  type MapPagesOptions,
  type MappedPages,
  UINT32_MAX,
} from '@xenkit/hypervisor'
import { ApartMapping } from './apart-mapping.ts'
import type { Attachment } from './attachment.ts'
import { CopyBatch } from './copy-batch.ts'
import { Mapping } from './mapping.ts'
import { Share } from './share.ts'

/** Implements `GrantPort` for one domain and thread. */
export class SimGrants implements GrantPort {
  readonly #attachment: Attachment

  constructor(attachment: Attachment) {
    this.#attachment = attachment
  }

  map(refs: readonly GrantRef[], o: { readonly writable: boolean }): GrantMapping {
    expectRefs(refs)
    return new Mapping(this.#attachment, refs, o)
  }

  mapPages(refs: readonly GrantRef[], o: MapPagesOptions): MappedPages {
    expectRefs(refs)
    return new ApartMapping(this.#attachment, refs, o)
  }

  openCopyBatch(o: { readonly domid: number; readonly capacity: number }): GrantCopyBatch {
    expectInteger('domid', o.domid, 0, DOMID_MAX)
    expectInteger('capacity', o.capacity, 1, 65_536)
    return new CopyBatch(this.#attachment, o)
  }

  share(o: {
    readonly domid: number
    readonly pages: number
    readonly writable: boolean
  }): GrantShare {
    expectInteger('domid', o.domid, 0, DOMID_MAX)
    return new Share(this.#attachment, o)
  }
}

function expectRefs(refs: readonly GrantRef[]): void {
  expectInteger('refs.length', refs.length, 1, UINT32_MAX)
  for (const { domid, gref } of refs) {
    expectInteger('domid', domid, 0, DOMID_MAX)
    expectInteger('gref', gref, 0, UINT32_MAX)
  }
}
