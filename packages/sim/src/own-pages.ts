/** Pages that a domain allocates from its own arena. */
import { expectInteger, PAGE_SIZE, type Pages } from '@xenkit/hypervisor'
import type { Attachment, Opened } from './attachment.ts'
import type { MachineState } from './machine-state.ts'

/**
 * Allocates zeroed pages.
 * @returns the first frame
 */
export function allocateZeroed(attachment: Attachment, pages: number): number {
  const { state, frames } = attachment.hypervisor
  expectInteger('pages', pages, 1, state.shared.limits.pages)
  const allocate = (): number =>
    attachment.hypercall(() => frames.allocate(attachment.domid, pages))
  const frame = attachment.room.take({ pages }, allocate)
  // Clear the pages outside the machine lock: 64 MiB take 10 ms, and no one else can reach them
  // yet.
  pagesAt(state, frame, pages).fill(0)
  return frame
}

/** Returns a view of pages of machine memory. */
export function pagesAt({ memory }: MachineState, frame: number, pages: number): Uint8Array {
  return memory.subarray(frame * PAGE_SIZE, (frame + pages) * PAGE_SIZE)
}

/** Implements `Pages`, for pages allocated from the arena. */
export class OwnPages implements Pages, Opened {
  readonly isPages = true
  readonly byteOffset: number
  readonly bytes: Uint8Array
  readonly #attachment: Attachment
  readonly #frame: number
  readonly #count: number
  #closed = false

  constructor(attachment: Attachment, pages: number) {
    this.#attachment = attachment
    this.#count = pages
    this.#frame = allocateZeroed(attachment, pages)
    this.byteOffset = this.#frame * PAGE_SIZE
    this.bytes = pagesAt(attachment.hypervisor.state, this.#frame, pages)
    attachment.opened(this)
  }

  close(): void {
    if (this.#closed) return
    this.#closed = true
    this.#attachment.forget(this)
    this.#attachment.room.give({ pages: this.#count })
    this.#attachment.release(() => {
      for (let page = 0; page < this.#count; page++) {
        this.#attachment.hypervisor.frames.free(this.#frame + page)
      }
    })
  }

  abandon(): void {
    this.close()
  }

  [Symbol.dispose](): void {
    this.close()
  }
}
