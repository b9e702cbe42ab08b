/** Mappings of other domains' pages, and own pages shared with other domains. */
import {
  expectInteger,
  GrantError,
  type GrantMapping,
  type GrantShare,
  type MappedPages,
  PAGE_SIZE,
  UINT32_MAX,
  type UnmapNotify,
} from '@xenkit/hypervisor'
import { type XenArena, XenPages } from './arena.ts'
import { translated } from './native-error.ts'

/** Contiguous pages of other domains, or own pages that another domain may map. */
export class GrantedPages extends XenPages implements GrantMapping {
  protected override giveBack(call: () => void): void {
    translated(call, ({ message, status }) => {
      const pages = this.bytes.length / PAGE_SIZE
      const details = { status, byteOffset: this.byteOffset, pages }
      return new GrantError(`cannot give back ${pages} granted pages: ${message}`, details)
    })
  }

  notifyOnUnmap({ clearByte, port }: UnmapNotify): void {
    if (clearByte !== undefined) expectInteger('clearByte', clearByte, 0, this.bytes.length - 1)
    if (port !== undefined) expectInteger('port', port, 0, UINT32_MAX)
    translated(
      () => this.arena.native.notifyOnUnmap(this.byteOffset, clearByte, port),
      ({ message, status }) =>
        new GrantError(`cannot arrange the unmap-notify: ${message}`, { status, clearByte, port }),
    )
  }
}

/**
 * A mapping whose pages needn't be contiguous. This one maps them contiguously, which costs least.
 */
export class XenMappedPages extends GrantedPages implements MappedPages {
  readonly offsets: Uint32Array

  constructor(arena: XenArena, byteOffset: number, pages: number) {
    super(arena, byteOffset, pages)
    this.offsets = Uint32Array.from({ length: pages }, (_, page) => byteOffset + page * PAGE_SIZE)
  }
}

/** Own pages that another domain may map. */
export class XenShare extends GrantedPages implements GrantShare {
  readonly grefs: Uint32Array

  constructor(arena: XenArena, byteOffset: number, grefs: Uint32Array) {
    super(arena, byteOffset, grefs.length)
    this.grefs = grefs
  }
}
