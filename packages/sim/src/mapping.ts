/** Pages of other domains, in view: they lie where they always do in machine memory. */
import { GrantError, type GrantMapping, type GrantRef, PAGE_SIZE, type UnmapNotify } from '@xenkit/hypervisor'
import type { Attachment, Opened } from './attachment.ts'
import { pagesAt } from './own-pages.ts'
import { EINVAL, expectNotify } from './unmap-notifications.ts'

export class Mapping implements GrantMapping, Opened {
  readonly byteOffset: number
  readonly bytes: Uint8Array
  readonly #attachment: Attachment
  readonly #frame: number
  readonly #handles: readonly number[]
  readonly #writable: boolean
  #pins = 0
  #closed = false

  constructor(attachment: Attachment, refs: readonly GrantRef[], o: { readonly writable: boolean }) {
    const { maptrack } = attachment.hypervisor
    const { handles, frame } = attachment.hypercall(() => maptrack.map(attachment.domid, refs, o.writable))
    this.#attachment = attachment
    this.#handles = handles
    this.#frame = frame
    this.#writable = o.writable
    this.byteOffset = frame * PAGE_SIZE
    this.bytes = pagesAt(attachment.hypervisor.state, frame, refs.length)
    attachment.opened(this)
  }

  pin(): void {
    if (this.#closed) throw new RangeError('"pin" expected an open mapping')
    if (++this.#pins === 1) this.#notePinned(true)
  }

  unpin(): void {
    if (this.#pins === 0) throw new RangeError('"unpin" expected a pinned mapping')
    if (--this.#pins > 0) return
    this.#notePinned(false)
    if (this.#closed) this.#unmap()
  }

  /** For the report of what a machine still has open. */
  #notePinned(pinned: boolean): void {
    const { maptrack } = this.#attachment.hypervisor.state
    this.#attachment.release(() => {
      for (const handle of this.#handles) maptrack.set(handle, 'pinned', pinned ? 1 : 0)
    })
  }

  notifyOnUnmap(notify: UnmapNotify): void {
    const { hypervisor, domid } = this.#attachment
    const [first] = this.#handles
    if (first === undefined) return
    expectNotify(notify, this.bytes.length)
    if (notify.clearByte !== undefined && !this.#writable) {
      throw new GrantError('cannot clear a byte of a read-only mapping: EINVAL', { status: -EINVAL, byteOffset: this.byteOffset })
    }
    this.#attachment.hypercall(() => hypervisor.notifications.set(hypervisor.state.maptrack, first, { domid, frame: this.#frame, notify }))
  }

  close(): void {
    if (this.#closed) return
    this.#closed = true
    if (this.#pins === 0) this.#unmap()
  }

  abandon(): void {
    this.close()
  }

  [Symbol.dispose](): void {
    this.close()
  }

  #unmap(): void {
    const { maptrack, notifications, state } = this.#attachment.hypervisor
    this.#attachment.forget(this)
    this.#attachment.release(() => {
      for (const handle of this.#handles) notifications.fire(state.maptrack, handle)
      for (const handle of this.#handles) maptrack.unmap(handle)
    })
  }
}
