/**
 * Mappings of granted pages. A writable or live mapping shows the granted pages themselves. Another
 * read-only mapping shows a copy, made at the time of mapping, in frames of the mapping domain. No
 * MMU prevents a store to the copy, so the end of the mapping checks for one: only the mapping
 * domain can have changed the copy.
 */
import {
  GrantError,
  type GrantMapping,
  type GrantRef,
  type MapPagesOptions,
  PAGE_SIZE,
  type UnmapNotify,
} from '@xenkit/hypervisor'
import type { Attachment, Opened } from './attachment.ts'
import type { MappedPages } from './maptrack.ts'
import { pagesAt } from './own-pages.ts'
import { EINVAL, expectNotify } from './unmap-notifications.ts'

/** Implements `GrantMapping`. */
export class Mapping implements GrantMapping, Opened {
  readonly isPages = true
  readonly byteOffset: number
  readonly bytes: Uint8Array
  readonly #attachment: Attachment
  readonly #frame: number
  /** First frame of a read-only mapping's copy, and the bytes it must still hold at the end. */
  readonly #view: { readonly frame: number; readonly bytes: Uint8Array } | undefined
  readonly #mappings: number
  readonly #handles: readonly number[]
  readonly #writable: boolean
  #closed = false

  /** @param o.mappings how many of the arena's mappings this one counts as, default 1 */
  constructor(
    attachment: Attachment,
    refs: readonly GrantRef[],
    o: MapPagesOptions & { readonly mappings?: number },
  ) {
    const { mappings = 1 } = o
    const { handles, frame, view } = attachment.room.take({ pages: refs.length, mappings }, () =>
      attachment.hypercall(() => map(attachment, refs, o)),
    )
    const { state } = attachment.hypervisor
    this.#attachment = attachment
    this.#mappings = mappings
    this.#handles = handles
    this.#frame = frame
    this.#writable = o.writable
    this.byteOffset = (view ?? frame) * PAGE_SIZE
    this.bytes = pagesAt(state, view ?? frame, refs.length)
    if (view !== undefined) {
      this.bytes.set(pagesAt(state, frame, refs.length))
      this.#view = { frame: view, bytes: this.bytes.slice() }
    }
    attachment.opened(this)
  }

  notifyOnUnmap(notify: UnmapNotify): void {
    const { hypervisor, domid } = this.#attachment
    const [first] = this.#handles
    if (first === undefined) return
    expectNotify(notify, this.bytes.length)
    if (notify.clearByte !== undefined && !this.#writable) {
      throw new GrantError('cannot clear a byte of a read-only mapping: EINVAL', {
        status: -EINVAL,
        byteOffset: this.byteOffset,
      })
    }
    this.#attachment.hypercall(() =>
      hypervisor.notifications.set(hypervisor.state.maptrack, first, {
        domid,
        frame: this.#frame,
        notify,
      }),
    )
  }

  close(): void {
    if (this.#closed) return
    this.#closed = true
    const { maptrack, notifications, state } = this.#attachment.hypervisor
    this.#attachment.forget(this)
    this.#attachment.room.give({ pages: this.#handles.length, mappings: this.#mappings })
    this.#attachment.release(() => {
      if (this.#view) this.#endView(this.#view)
      for (const handle of this.#handles) notifications.fire(state.maptrack, handle)
      for (const handle of this.#handles) maptrack.unmap(handle)
    })
  }

  abandon(): void {
    this.close()
  }

  [Symbol.dispose](): void {
    this.close()
  }

  /**
   * Frees the copy of a read-only mapping. If the copy was changed, records that for
   * `assertQuiescent`, which reports the first such store.
   */
  #endView({ frame, bytes }: { readonly frame: number; readonly bytes: Uint8Array }): void {
    const { frames, state } = this.#attachment.hypervisor
    const { header, maptrack } = state
    const stored = bytes.findIndex((byte, at) => byte !== this.bytes[at])
    const handle = this.#handles[Math.floor(stored / PAGE_SIZE)]
    if (handle !== undefined && header.get(0, 'storedBy') === 0) {
      header.set(0, 'storedGrantor', maptrack.get(handle, 'grantor'))
      header.set(0, 'storedGref', maptrack.get(handle, 'gref'))
      header.set(0, 'storedByte', stored % PAGE_SIZE)
      header.set(0, 'storedBy', this.#attachment.domid + 1)
    }
    for (let page = 0; page < this.#handles.length; page++) frames.free(frame + page)
  }
}

/**
 * Maps the pages, and allocates frames for the copy of a read-only mapping.
 * @returns the first frame of the pages, and of the copy if there is one
 */
function map(
  { domid, hypervisor }: Attachment,
  refs: readonly GrantRef[],
  { writable, live = writable }: MapPagesOptions,
): MappedPages & { readonly view: number | undefined } {
  const { frames, maptrack } = hypervisor
  const mapped = maptrack.map(domid, refs, writable)
  if (live) return { ...mapped, view: undefined }
  try {
    return { ...mapped, view: frames.allocateView(domid, refs.length) }
  } catch (error) {
    for (const handle of mapped.handles) maptrack.unmap(handle)
    throw error
  }
}
