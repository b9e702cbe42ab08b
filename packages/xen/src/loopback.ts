/**
 * A hypervisor without Xen, for the warm-up before the first guest. It uses this package's real
 * classes over simulated devices: V8 compiles code for the classes that it has seen, so the warm-up
 * must use the same classes as real guests.
 *
 * A grant reference is the number of a page in the arena. A mapping is new memory. Copies to
 * granted pages do nothing, since nobody reads them.
 */
import { type Hypervisor, PAGE_SIZE } from '@xenkit/hypervisor'
import {
  type Arena,
  type CopyLayout,
  type Evtchn,
  type Gntalloc,
  type Gntdev,
  loadNative,
  type Native,
} from '@xenkit/native'
import { Xen } from './open-xen.ts'

/** Pages of address space: enough for a few rings' pages and buffers. */
const ARENA_PAGES = 2048

/** A hypervisor without Xen, and the controls of its devices. */
export interface Loopback {
  readonly hv: Hypervisor
  /** Returns the page that the latest mapping of a grant reference uses. */
  mapped(gref: number): Uint8Array
  /** Runs the handler of a bound port, as an event does. */
  raise(port: number): void
}

/**
 * Opens a hypervisor without Xen.
 * @throws Error if the addon can't be loaded
 */
export function openLoopback(): Loopback {
  const native = loadNative()
  const mapped = new Map<number, number>()
  const columns =
    <T>(Column: new (buffer: ArrayBuffer, at: number, length: number) => T) =>
    (at: number, length: number): T =>
      new Column(hv.arena.buffer, at, length)
  const bytes = columns(Uint8Array)
  const shorts = columns(Uint16Array)
  const words = columns(Uint32Array)
  let deliver = (_port: number): void => {}

  class PlayedGntdev implements Gntdev {
    readonly #arena: Arena

    constructor(arena: Arena) {
      this.#arena = arena
    }

    map(refs: Uint32Array): number {
      const offset = this.#arena.allocate(refs.length / 2)
      for (let i = 0; i < refs.length / 2; i++) {
        mapped.set(refs[2 * i + 1] ?? 0, offset + i * PAGE_SIZE)
      }
      return offset
    }

    probe(): number {
      return 0
    }

    copyLayout(capacity: number): CopyLayout {
      return {
        gref: 0,
        local: 4 * capacity,
        offset: 8 * capacity,
        length: 10 * capacity,
        status: 12 * capacity,
        size: 14 * capacity,
      }
    }

    createCopy(table: number, capacity: number, _: number, outward: boolean): Call {
      const at = this.copyLayout(capacity)
      const gref = words(table + at.gref, capacity)
      const local = words(table + at.local, capacity)
      const length = shorts(table + at.length, capacity)
      const memory = bytes(0, ARENA_PAGES * PAGE_SIZE)
      return bound((count) => {
        const inward = outward ? 0 : count
        for (let i = 0; i < inward; i++) {
          const from = (gref[i] ?? 0) * PAGE_SIZE
          memory.copyWithin(local[i] ?? 0, from, from + (length[i] ?? 0))
        }
        return 0
      })
    }

    close(): void {}
  }

  class PlayedGntalloc implements Gntalloc {
    readonly #arena: Arena

    constructor(arena: Arena) {
      this.#arena = arena
    }

    share(_: number, pages: number): { readonly offset: number; readonly grefs: number[] } {
      const offset = this.#arena.allocate(pages)
      return { offset, grefs: Array.from({ length: pages }, (_, i) => offset / PAGE_SIZE + i) }
    }

    close(): void {}
  }

  class PlayedEvtchn implements Evtchn {
    constructor(_: Arena, _path: string, table: number, onPending: (count: number) => void) {
      deliver = (port) => {
        words(table, 1)[0] = port
        onPending(1)
      }
    }

    bindInterdomain(_: number, port: number): number {
      return port
    }

    bindUnbound(): number {
      return 1
    }

    bindVirq(): number {
      return 1
    }

    createNotify(): Call {
      return bound(() => 0)
    }

    createUnmask(): Call {
      return bound(() => 0)
    }

    unbind(): void {}

    close(): void {}
  }

  const played: Native = {
    ...native,
    Gntdev: PlayedGntdev,
    Gntalloc: PlayedGntalloc,
    Evtchn: PlayedEvtchn,
  }
  const hv = new Xen(played, ARENA_PAGES)
  return {
    hv,
    mapped: (gref) => bytes(mapped.get(gref) ?? 0, PAGE_SIZE),
    raise: (port) => deliver(port),
  }
}

type Call = (count: number) => number

/**
 * Wraps a function by `bind`. V8 sees a different function in each bound one, so it compiles the
 * call for any function, and keeps that code when the addon's functions are called instead.
 */
const bound = (call: Call): Call => call.bind(undefined)
