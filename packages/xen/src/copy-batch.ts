/**
 * Grant copies described by arrays. The arrays are columns of one table in the arena: the addon
 * reads them in place, and the garbage collector can't free them during a call.
 */
import { expectInteger, GrantError, type GrantCopyBatch, PAGE_SIZE } from '@xenkit/hypervisor'
import type { Gntdev } from '@xenkit/native'
import type { XenArena, XenPages } from './arena.ts'
import { asNativeError } from './native-error.ts'

/** The hypervisor port's `GrantCopyBatch`, made of ioctls on gntdev. */
export class XenCopyBatch implements GrantCopyBatch {
  readonly capacity: number
  readonly gref: Uint32Array
  readonly local: Uint32Array
  readonly offset: Uint16Array
  readonly length: Uint16Array
  readonly status: Int16Array
  readonly #copyIn: (count: number) => number
  readonly #copyOut: (count: number) => number
  readonly #table: XenPages
  readonly #domid: number

  constructor(
    arena: XenArena,
    gntdev: Gntdev,
    { domid, capacity }: { readonly domid: number; readonly capacity: number },
  ) {
    this.capacity = capacity
    this.#domid = domid
    const layout = gntdev.copyLayout(capacity)
    this.#table = arena.allocate(Math.ceil(layout.size / PAGE_SIZE))
    const at = this.#table.byteOffset
    this.#copyIn = gntdev.createCopy(at, capacity, domid, false)
    this.#copyOut = gntdev.createCopy(at, capacity, domid, true)
    this.gref = new Uint32Array(arena.buffer, at + layout.gref, capacity)
    this.local = new Uint32Array(arena.buffer, at + layout.local, capacity)
    this.offset = new Uint16Array(arena.buffer, at + layout.offset, capacity)
    this.length = new Uint16Array(arena.buffer, at + layout.length, capacity)
    this.status = new Int16Array(arena.buffer, at + layout.status, capacity)
  }

  copyIn(count: number): number {
    return this.#copy(count, false)
  }

  copyOut(count: number): number {
    return this.#copy(count, true)
  }

  close(): void {
    this.#table.close()
  }

  [Symbol.dispose](): void {
    this.close()
  }

  #copy(count: number, outward: boolean): number {
    if (this.#table.closed) throw new TypeError('the copy batch is closed')
    expectInteger('count', count, 0, this.capacity)
    try {
      return outward ? this.#copyOut(count) : this.#copyIn(count)
    } catch (error) {
      // The operations before the failed one may be complete: the kernel stops at the first
      // operation that it can't submit.
      const { message, status } = asNativeError(error)
      throw new GrantError(
        `cannot copy ${outward ? 'to' : 'from'} pages of domain ${this.#domid}: ${message}`,
        { status, domid: this.#domid, count },
        { cause: error },
      )
    }
  }
}
