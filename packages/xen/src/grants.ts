/** Grants over /dev/xen/gntdev and /dev/xen/gntalloc. */
import {
  ArenaFullError,
  DOMID_MAX,
  expectInteger,
  GrantError,
  type GrantCopyBatch,
  type GrantMapping,
  type GrantPort,
  type GrantRef,
  type GrantShare,
  type MappedPages,
  UINT32_MAX,
} from '@xenkit/hypervisor'
import type { Gntalloc, Gntdev, Native } from '@xenkit/native'
import { GNTST, gntstMeaning, gntstName } from '@xenkit/wire'
import type { XenArena } from './arena.ts'
import { XenCopyBatch } from './copy-batch.ts'
import { DEVICES, openDevice } from './devices.ts'
import { GrantedPages, XenMappedPages, XenShare } from './granted-pages.ts'
import { type NativeError, translated } from './native-error.ts'

/** Most pages of one gntdev ioctl (its module parameter `limit`). No ring needs as many. */
const MAX_REFS = 65_536

/** The hypervisor port's `GrantPort`, made of gntdev and gntalloc. */
export class XenGrants implements GrantPort {
  readonly #native: Native
  readonly #arena: XenArena
  readonly #gntdev: Gntdev
  /** The gntalloc device, opened at the first `share`: backends never need it. */
  #gntalloc: Gntalloc | undefined

  /** @throws NotAvailableError if gntdev can't be opened */
  constructor(native: Native, arena: XenArena) {
    this.#native = native
    this.#arena = arena
    this.#gntdev = openDevice(DEVICES.gntdev, (path) => new native.Gntdev(arena.native, path))
  }

  /**
   * Maps pages contiguously. Storing to a page mapped with `writable: false` ends the process
   * (SIGSEGV).
   */
  map(refs: readonly GrantRef[], o: { readonly writable: boolean }): GrantMapping {
    return new GrantedPages(this.#arena, this.#mapRun(refs, o), refs.length)
  }

  /** Maps the pages contiguously, which costs least. */
  mapPages(refs: readonly GrantRef[], o: { readonly writable: boolean }): MappedPages {
    return new XenMappedPages(this.#arena, this.#mapRun(refs, o), refs.length)
  }

  #mapRun(refs: readonly GrantRef[], { writable }: { readonly writable: boolean }): number {
    expectInteger('refs.length', refs.length, 1, MAX_REFS)
    const pairs = new Uint32Array(refs.length * 2)
    refs.forEach(({ domid, gref }, index) => {
      expectInteger('domid', domid, 0, DOMID_MAX)
      expectInteger('gref', gref, 0, UINT32_MAX)
      pairs[index * 2] = domid
      pairs[index * 2 + 1] = gref
    })
    return translated(
      () => this.#gntdev.map(pairs, writable),
      (error) => (error.errno === 'ENOMEM' ? noRoom(error) : this.#explain(refs, writable, error)),
    )
  }

  /**
   * Finds the grant reference that failed, by probing each: the kernel reports one error for a
   * whole run.
   */
  #explain(
    refs: readonly GrantRef[],
    writable: boolean,
    { message, status }: NativeError,
  ): GrantError {
    for (const { domid, gref } of refs) {
      const probed = this.#gntdev.probe(domid, gref, writable)
      if (probed === 0) continue
      const readOnly = writable && this.#gntdev.probe(domid, gref, false) === 0
      // Xen's status for a page granted read-only. gntdev doesn't report it.
      const one = readOnly ? GNTST.general_error : probed
      const meaning = readOnly ? 'it is granted read-only' : gntstMeaning(one)
      const why = meaning === undefined ? message : `${gntstName(one)}, ${meaning}`
      return new GrantError(`cannot map gref ${gref} of domain ${domid}: ${why}`, {
        status: one,
        domid,
        gref,
      })
    }
    return new GrantError(`cannot map ${refs.length} granted pages: ${message}`, { status })
  }

  openCopyBatch(o: { readonly domid: number; readonly capacity: number }): GrantCopyBatch {
    expectInteger('domid', o.domid, 0, DOMID_MAX)
    expectInteger('capacity', o.capacity, 1, 65_536)
    return new XenCopyBatch(this.#arena, this.#gntdev, o)
  }

  /** @throws NotAvailableError if gntalloc can't be opened, in addition to the port's errors */
  share({
    domid,
    pages,
    writable,
  }: {
    readonly domid: number
    readonly pages: number
    readonly writable: boolean
  }): GrantShare {
    expectInteger('domid', domid, 0, DOMID_MAX)
    expectInteger('pages', pages, 1, MAX_REFS)
    this.#gntalloc ??= openDevice(
      DEVICES.gntalloc,
      (path) => new this.#native.Gntalloc(this.#arena.native, path),
    )
    const gntalloc = this.#gntalloc
    const { offset, grefs } = translated(
      () => gntalloc.share(domid, pages, writable),
      ({ message, errno, status }) => {
        const fix =
          errno === 'ENOSPC'
            ? '; the limit is for the whole domain: /sys/module/xen_gntalloc/parameters/limit'
            : ''
        return new GrantError(
          `cannot share ${pages} pages with domain ${domid}: ${message}${fix}`,
          { status, domid, pages },
        )
      },
    )
    return new XenShare(this.#arena, offset, Uint32Array.from(grefs))
  }

  /** Closes the devices. Closing the arena ends mappings and shares. */
  close(): void {
    this.#gntdev.close()
    this.#gntalloc?.close()
  }
}

/**
 * Returns the error for ENOMEM, which no grant reference causes: the kernel is out of memory, or
 * the process has too many memory areas.
 */
const noRoom = ({ message }: NativeError): ArenaFullError =>
  new ArenaFullError(`no room for a mapping: ${message}; vm.max_map_count may be too low`, {})
