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

class GrantedPages extends XenPages {
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

/** A contiguous mapping of other domains' pages. */
export class XenMapping extends GrantedPages implements GrantMapping {
  #pins = 0

  // The addon counts one pin per mapping: it is called for the first pin and the last unpin only.
  pin(): void {
    if (this.#pins === 0) {
      if (this.closed) throw new RangeError('"pin" expected an open mapping')
      this.arena.native.pin(this.byteOffset)
    }
    this.#pins++
  }

  unpin(): void {
    if (this.#pins === 0) throw new RangeError('"unpin" expected a pinned mapping')
    if (--this.#pins === 0) this.giveBack(() => this.arena.native.unpin(this.byteOffset))
  }
}

/**
 * A mapping whose pages may lie apart. Here they are contiguous all the same, which costs least.
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
