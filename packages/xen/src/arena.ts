/** `XenArena`: the hypervisor port's arena, made of the addon's. */
import {
  type Arena,
  type ArenaTenant,
  expectInteger,
  GrantError,
  Holds,
  type Pages,
  PAGE_SIZE,
  UINT32_MAX,
} from '@xenkit/hypervisor'
import type { Native, Arena as NativeArena } from '@xenkit/native'
import { translated } from './native-error.ts'

/** Most pages that a 32-bit byte offset can address. */
const ARENA_MAX_PAGES = 2 ** 20

/** The arena (memory for mapped, shared and own pages) of one hypervisor and thread. */
export class XenArena implements Arena {
  readonly buffer: ArrayBuffer
  readonly pages: number
  readonly mappings: number
  readonly tenants = new Set<ArenaTenant>()
  readonly waiting = new Set<() => void>()
  readonly native: NativeArena
  readonly #holds = new Holds(() => this.#endIfClosed())
  #closed = false

  /**
   * Reserves the arena's address range. A page costs memory only once it is used.
   * @param pages 1..1048576
   * @throws RangeError outside that range
   */
  constructor(native: Native, pages: number) {
    expectInteger('arenaPages', pages, 1, ARENA_MAX_PAGES)
    this.pages = pages
    this.mappings = native.maxMappings()
    this.native = new native.Arena(pages)
    this.buffer = this.native.createBuffer()
  }

  allocate(pages: number): XenPages {
    expectInteger('pages', pages, 1, UINT32_MAX)
    const offset = translated(
      () => this.native.allocate(pages),
      ({ message }) => new Error(message),
    )
    return new XenPages(this, offset, pages)
  }

  hold(): Disposable {
    return this.#holds.take()
  }

  /**
   * Closes the arena. Its pages are released as soon as no call of the addon uses them.
   * @throws GrantError if pages of other domains can't be unmapped
   */
  close(): void {
    this.#closed = true
    this.#endIfClosed()
  }

  #endIfClosed(): void {
    if (!this.#closed || this.#holds.exist) return
    translated(
      () => this.native.closeAll(),
      ({ message, status }) => new GrantError(`cannot give back all pages: ${message}`, { status }),
    )
  }
}

/** A run of pages in the arena: mapped, shared or allocated. */
export class XenPages implements Pages {
  readonly byteOffset: number
  readonly bytes: Uint8Array<ArrayBuffer>
  protected readonly arena: XenArena
  #closed = false

  constructor(arena: XenArena, byteOffset: number, pages: number) {
    this.arena = arena
    this.byteOffset = byteOffset
    this.bytes = new Uint8Array(arena.buffer, byteOffset, pages * PAGE_SIZE)
  }

  get closed(): boolean {
    return this.#closed
  }

  close(): void {
    if (this.#closed) return
    this.#closed = true
    this.giveBack(() => this.arena.native.close(this.byteOffset))
  }

  /** Runs the addon call that releases the pages, and converts its errors. */
  protected giveBack(call: () => void): void {
    translated(call, ({ message }) => new Error(message))
  }

  [Symbol.dispose](): void {
    this.close()
  }
}
