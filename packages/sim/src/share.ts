/** Pages that a domain grants to another domain. */
import { GrantError, type GrantShare, PAGE_SIZE, type UnmapNotify } from '@xenkit/hypervisor'
import { GNTST } from '@xenkit/wire'
import type { Attachment, Opened } from './attachment.ts'
import { allocateZeroed, pagesAt } from './own-pages.ts'
import { expectNotify } from './unmap-notifications.ts'

const EBUSY = 16

/** Implements `GrantShare`. */
export class Share implements GrantShare, Opened {
  readonly isPages = true
  readonly byteOffset: number
  readonly bytes: Uint8Array
  readonly grefs: Uint32Array
  readonly #attachment: Attachment
  readonly #frame: number
  #closed = false

  constructor(
    attachment: Attachment,
    o: { readonly domid: number; readonly pages: number; readonly writable: boolean },
  ) {
    const { frames, grants } = attachment.hypervisor
    this.#attachment = attachment
    this.#frame = allocateZeroed(attachment, o.pages)
    this.byteOffset = this.#frame * PAGE_SIZE
    this.bytes = pagesAt(attachment.hypervisor.state, this.#frame, o.pages)
    this.grefs = attachment.hypercall(() => {
      const room = grants.room(attachment.domid)
      if (room < o.pages) {
        for (let page = 0; page < o.pages; page++) frames.free(this.#frame + page)
        attachment.room.give({ pages: o.pages })
        throw new GrantError(
          `cannot grant ${o.pages} pages: GNTST_no_space, the grant table of domain ${attachment.domid} has ${room} free entries`,
          {
            status: GNTST.no_space,
            domid: attachment.domid,
          },
        )
      }
      return Uint32Array.from({ length: o.pages }, (_, page) =>
        grants.grant({
          domid: attachment.domid,
          to: o.domid,
          frame: this.#frame + page,
          writable: o.writable,
        }),
      )
    })
    attachment.opened(this)
  }

  notifyOnUnmap(notify: UnmapNotify): void {
    const { hypervisor, domid } = this.#attachment
    expectNotify(notify, this.bytes.length)
    this.#attachment.hypercall(() =>
      hypervisor.notifications.set(hypervisor.state.frames, this.#frame, {
        domid,
        frame: this.#frame,
        notify,
      }),
    )
  }

  /**
   * Ends the grants. If the other domain still maps a page, Linux's gntalloc waits silently. Here
   * that is an error, because the caller can't know when the other domain will unmap. With
   * `notifyOnUnmap` it is no error: the close notifies the other domain, and the pages stay until
   * that has unmapped them.
   * @throws GrantError if the other domain still maps a page; the share stays as it was
   */
  close(): void {
    const { grants, notifications, state } = this.#attachment.hypervisor
    this.#end(() => {
      const mapped = this.grefs.find((gref) => grants.isMapped(this.#attachment.domid, gref))
      if (mapped === undefined || notifications.isSet(state.frames, this.#frame)) return
      throw new GrantError(
        `cannot revoke gref ${mapped} of domain ${this.#attachment.domid}: it is still mapped; close it when the other side has unmapped it`,
        {
          status: -EBUSY,
          domid: this.#attachment.domid,
          gref: mapped,
        },
      )
    })
  }

  abandon(): void {
    this.#end(() => {})
  }

  [Symbol.dispose](): void {
    this.close()
  }

  #end(expectRevocable: () => void): void {
    if (this.#closed) return
    const { grants, notifications, state } = this.#attachment.hypervisor
    this.#attachment.release(() => {
      expectRevocable()
      notifications.fire(state.frames, this.#frame)
      for (const gref of this.grefs) grants.revoke(this.#attachment.domid, gref)
    })
    this.#closed = true
    this.#attachment.room.give({ pages: this.grefs.length })
    this.#attachment.forget(this)
  }
}
