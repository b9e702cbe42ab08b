/**
 * Answers the requests of a card's control ring: the section "Control requests" of
 * xen/include/public/io/netif.h. The statuses for the hash are those of Linux's netback: it answers
 * INVALID_PARAMETER where netif.h would have BUFFER_OVERFLOW.
 */
import type { ArenaShare, GrantCopier, GrantTable } from '@xenkit/grant'
import { type GuestTurn, PAGE_SIZE, type Pages } from '@xenkit/hypervisor'
import { MAX_HASH_KEY } from '@xenkit/frames'
import {
  netif,
  XEN_NETIF_CTRL_STATUS,
  XEN_NETIF_CTRL_TYPE,
  XEN_NETIF_CTRLF_GREF,
} from '@xenkit/wire'
import { HASH_TYPES, type HashConfig, MAX_HASH_MAPPING } from './hash-config.ts'
import { MAX_STATIC_GREFS, type StaticGrefs } from './static-grefs.ts'

const { SUCCESS, NOT_SUPPORTED, INVALID_PARAMETER } = XEN_NETIF_CTRL_STATUS

type Request = ReturnType<typeof netif.ctrl.request.decode>
type Response = Parameters<typeof netif.ctrl.response.encode>[0]
/** A response's status, and its data: 0 if there is none. */
type Answer = Pick<Response, 'status' | 'data'>

/** Options of `ControlRing`. */
export interface ControlRingOptions {
  readonly domid: number
  readonly grants: GrantTable
  readonly share: ArenaShare
  /** The guest's turn: a list of grants takes as long as many requests. */
  readonly guestTurn: GuestTurn
  /** What the guest configures: the hash, and the static grants of each queue. */
  readonly hash: HashConfig
  readonly staticGrefs: readonly StaticGrefs[]
}

/** What a card's guest configures by its control ring. `answer` is for `MessageWork`. */
export class ControlRing implements Disposable {
  readonly #o: ControlRingOptions
  /** Copies the page that a request names, to or from `#page`. */
  readonly #copier: GrantCopier
  /** A private copy, which the guest can't change. */
  readonly #page: Pages
  readonly #view: DataView

  /**
   * @throws GrantError, ArenaFullError if there is no memory for it
   */
  constructor(o: ControlRingOptions) {
    this.#o = o
    this.#copier = o.grants.openCopier({ domid: o.domid, capacity: 1 })
    this.#page = o.share.allocate(1)
    const { buffer, byteOffset, byteLength } = this.#page.bytes
    this.#view = new DataView(buffer, byteOffset, byteLength)
  }

  /** Answers a request, which may hold anything. @throws GrantError if a page can't be unmapped */
  answer({ id, type, data }: Request): Response {
    const [first = 0, second = 0, third = 0] = data
    return { id, type, ...this.#answer(type, first, second, third) }
  }

  close(): void {
    this.#copier.close()
    this.#page.close()
  }

  [Symbol.dispose](): void {
    this.close()
  }

  #answer(type: number, first: number, second: number, third: number): Answer {
    const { hash, staticGrefs } = this.#o
    switch (type) {
      case XEN_NETIF_CTRL_TYPE.GET_HASH_FLAGS:
        return hash.hasAlgorithm ? success(HASH_TYPES) : { status: NOT_SUPPORTED, data: 0 }
      case XEN_NETIF_CTRL_TYPE.SET_HASH_FLAGS:
        return successIf(hash.setTypes(first))
      case XEN_NETIF_CTRL_TYPE.SET_HASH_KEY:
        return successIf(this.#setKey(first, second))
      case XEN_NETIF_CTRL_TYPE.GET_HASH_MAPPING_SIZE:
        return success(MAX_HASH_MAPPING)
      case XEN_NETIF_CTRL_TYPE.SET_HASH_MAPPING_SIZE:
        return successIf(hash.setMappingSize(first))
      case XEN_NETIF_CTRL_TYPE.SET_HASH_MAPPING:
        return successIf(this.#setMapping(first, second, third))
      case XEN_NETIF_CTRL_TYPE.SET_HASH_ALGORITHM:
        return successIf(hash.setAlgorithm(first))
      case XEN_NETIF_CTRL_TYPE.GET_GREF_MAPPING_SIZE:
        return staticGrefs[first] ? success(MAX_STATIC_GREFS) : successIf(false)
      case XEN_NETIF_CTRL_TYPE.ADD_GREF_MAPPING:
        return successIf(this.#addGrefs(first, second, third))
      case XEN_NETIF_CTRL_TYPE.DEL_GREF_MAPPING:
        return this.#deleteGrefs(first, second, third)
      default:
        return { status: NOT_SUPPORTED, data: 0 }
    }
  }

  #setKey(gref: number, bytes: number): boolean {
    if (bytes > MAX_HASH_KEY || !this.#read(gref, bytes)) return false
    this.#o.hash.setKey(this.#page.bytes.subarray(0, bytes))
    return true
  }

  #setMapping(gref: number, entries: number, first: number): boolean {
    const { hash } = this.#o
    if (!hash.hasMapping(first, entries) || !this.#read(gref, 4 * entries)) return false
    const { buffer, byteOffset } = this.#page.bytes
    return hash.setMapping(first, new Uint32Array(buffer, byteOffset, entries))
  }

  #addGrefs(queue: number, list: number, entries: number): boolean {
    const grefs = this.#readList(queue, list, entries)
    if (grefs === undefined) return false
    const { at } = netif.gref
    return grefs.add(
      Array.from({ length: entries }, (_, i) => {
        const entry = i * netif.gref.size
        const flags = this.#view.getUint16(entry + at.flags, true)
        return {
          gref: this.#view.getUint32(entry + at.ref, true),
          writable: (flags & XEN_NETIF_CTRLF_GREF.readonly) === 0,
        }
      }),
    )
  }

  #deleteGrefs(queue: number, list: number, entries: number): Answer {
    const grefs = this.#readList(queue, list, entries)
    if (grefs === undefined) return successIf(false)
    const { at, size } = netif.gref
    const deleted = grefs.delete(
      Array.from({ length: entries }, (_, i) => this.#view.getUint32(i * size + at.ref, true)),
    )
    for (const [i, isDeleted] of deleted.entries()) {
      const status = isDeleted ? SUCCESS : INVALID_PARAMETER
      this.#view.setUint16(i * size + at.status, status, true)
    }
    const { status } = successIf(this.#write(list, entries * size))
    return { status, data: deleted.filter(Boolean).length }
  }

  /** Reads a list of grants. @returns the queue's grants, undefined if there is none, or no list */
  #readList(queue: number, list: number, entries: number): StaticGrefs | undefined {
    const { staticGrefs, guestTurn } = this.#o
    const grefs = staticGrefs[queue]
    if (!grefs || entries > PAGE_SIZE / netif.gref.size) return undefined
    // At most all of the queue's pages are mapped again: about a microsecond each.
    guestTurn.spend(grefs.size + entries)
    return this.#read(list, entries * netif.gref.size) ? grefs : undefined
  }

  /**
   * Copies the beginning of a granted page to `#page`. @returns false if the guest doesn't let us
   */
  #read(gref: number, bytes: number): boolean {
    if (bytes === 0) return true
    this.#copier.reset()
    this.#copier.add(gref, 0, bytes, this.#page.byteOffset)
    return this.#copier.copyIn() === 0
  }

  /**
   * Copies the beginning of `#page` to a granted page. @returns false if the guest doesn't let us
   */
  #write(gref: number, bytes: number): boolean {
    if (bytes === 0) return true
    this.#copier.reset()
    this.#copier.add(gref, 0, bytes, this.#page.byteOffset)
    return this.#copier.copyOut() === 0
  }
}

const success = (data: number): Answer => ({ status: SUCCESS, data })

const successIf = (is: boolean): Answer => ({ status: is ? SUCCESS : INVALID_PARAMETER, data: 0 })
