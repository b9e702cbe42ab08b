/** The addon's arena as the port's. */
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

/** Pages that an offset of 32 bits reaches. */
const ARENA_MAX_PAGES = 2 ** 20

export class XenArena implements Arena {
  readonly buffer: ArrayBuffer
  readonly pages: number
  readonly mappings: number
  readonly tenants = new Set<ArenaTenant>()
  readonly waiting = new Set<() => void>()
  readonly native: NativeArena
  readonly #holds = new Holds(() => this.#endIfClosed())
  #closed = false

  /** @param pages 1..1048576, of address space only: a page costs memory once it is used */
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

  /** Ends everything, after the last hold and its last pin. */
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

/** A run of the arena, whatever lies behind it. */
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

  /** Runs the addon call that may end the pages. */
  protected giveBack(call: () => void): void {
    translated(call, ({ message }) => new Error(message))
  }

  [Symbol.dispose](): void {
    this.close()
  }
}
