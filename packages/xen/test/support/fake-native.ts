/** The addon with its real arena and scripted drivers, which answer about grants as Linux does. */
import { type Arena, type CopyLayout, type Gntdev, loadNative, type Native } from '@xenkit/native'

/** The errors and statuses that the scripted drivers answer. */
export interface Script {
  /** Errno name that `map` fails with. */
  mapFails?: string
  /** Statuses that `probe` returns, by grant reference; 0 for all others. */
  readonly probes: Map<number, number>
  /** Grant references for which `probe` returns 0 if it is asked about a read-only mapping. */
  readonly readOnly?: readonly number[]
  /** Errno name that `copy` fails with. */
  copyFails?: string
}

/** Calls that the drivers received. */
export interface Asked {
  readonly maps: { readonly refs: readonly number[]; readonly writable: boolean }[]
  readonly copies: {
    readonly table: number
    readonly capacity: number
    readonly count: number
    readonly domid: number
    readonly outward: boolean
  }[]
}

const failing = (operation: string, code: string): Error =>
  Object.assign(new Error(`${operation}: ${code}`), { code })

/** Implements only the calls that `XenGrants` makes. */
export function fakeNative(script: Script): { readonly native: Native; readonly asked: Asked } {
  const real = loadNative()
  const asked: Asked = { maps: [], copies: [] }
  class FakeGntdev implements Gntdev {
    readonly #arena: Arena

    constructor(arena: Arena) {
      this.#arena = arena
    }

    map(refs: Uint32Array, writable: boolean): number {
      asked.maps.push({ refs: [...refs], writable })
      if (script.mapFails !== undefined) throw failing('mmap of granted pages', script.mapFails)
      return this.#arena.allocate(refs.length / 2)
    }

    probe(_domid: number, gref: number, writable: boolean): number {
      if (!writable && script.readOnly?.includes(gref)) return 0
      return script.probes.get(gref) ?? 0
    }

    /** Columns of 4 bytes per operation, in another order than the real addon's. */
    copyLayout(capacity: number): CopyLayout {
      const [status, length, offset, local, gref, size] = [0, 4, 8, 12, 16, 20].map(
        (at) => at * capacity,
      ) as [number, number, number, number, number, number]
      return { gref, local, offset, length, status, size }
    }

    createCopy(
      table: number,
      capacity: number,
      domid: number,
      outward: boolean,
    ): (count: number) => number {
      return (count) => {
        asked.copies.push({ table, capacity, count, domid, outward })
        if (script.copyFails !== undefined) {
          throw failing('IOCTL_GNTDEV_GRANT_COPY', script.copyFails)
        }
        return 0
      }
    }

    close(): void {}
  }
  return { native: { ...real, Arena: real.Arena, Gntdev: FakeGntdev }, asked }
}
