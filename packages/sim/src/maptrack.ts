/** Records which domain maps which page of another. Callers hold the machine lock. */
import { GrantError, type GrantRef } from '@xenkit/hypervisor'
import { GNTST, gntstName } from '@xenkit/wire'
import type { Frames } from './frames.ts'
import type { GrantTables } from './grant-tables.ts'
import { type MachineState, ownersOf } from './machine-state.ts'

/** The pages that one call of `map` has mapped. */
export interface MappedPages {
  /** Rows of the maptrack, one per page. */
  readonly handles: readonly number[]
  /** Frame of the first page. The others follow it in memory. */
  readonly frame: number
}

/** All mappings of the machine. */
export class Maptrack {
  readonly #state: MachineState
  readonly #frames: Frames
  readonly #grants: GrantTables

  constructor(state: MachineState, frames: Frames, grants: GrantTables) {
    this.#state = state
    this.#frames = frames
    this.#grants = grants
  }

  /**
   * Maps all pages or none.
   * @throws GrantError naming the first ref that failed
   */
  map(domid: number, refs: readonly GrantRef[], writable: boolean): MappedPages {
    const frame = this.#contiguous(domid, refs, writable)
    const { maptrack, header } = this.#state
    const room = maptrack.rows - header.get(0, 'mapped')
    if (refs.length > room) {
      throw new GrantError(
        `cannot map ${refs.length} pages: GNTST_no_space, the machine has room for ${room} more`,
        { status: GNTST.no_space },
      )
    }
    const handles = refs.map((ref, page) => this.#add(domid, ref, frame + page, writable))
    return { handles, frame }
  }

  #add(domid: number, ref: GrantRef, frame: number, writable: boolean): number {
    const { maptrack, header } = this.#state
    let row = header.get(0, 'nextHandle')
    while (maptrack.get(row, 'owner') !== 0) row = (row + 1) % maptrack.rows
    header.set(0, 'nextHandle', (row + 1) % maptrack.rows)
    maptrack.set(row, 'grantor', ref.domid)
    maptrack.set(row, 'gref', ref.gref)
    maptrack.set(row, 'frame', frame)
    maptrack.set(row, 'writable', writable ? 1 : 0)
    maptrack.set(row, 'owner', domid + 1)
    header.add(0, 'mapped', 1)
    this.#frames.addMap(frame, writable)
    this.#grants.noteMaps(ref.domid, ref.gref, frame)
    return row
  }

  unmap(handle: number): void {
    const { maptrack, header } = this.#state
    const frame = maptrack.get(handle, 'frame')
    const grantor = maptrack.get(handle, 'grantor')
    const gref = maptrack.get(handle, 'gref')
    const writable = maptrack.get(handle, 'writable') !== 0
    maptrack.clear(handle)
    header.add(0, 'mapped', -1)
    this.#frames.dropMap(frame, writable)
    this.#grants.noteMaps(grantor, gref, frame)
  }

  /** Whether the domain maps the frame. With `writable`, only a writable mapping counts. */
  maps(domid: number, frame: number, writable: boolean): boolean {
    const { maptrack } = this.#state
    return this.handlesOf(domid).some(
      (row) =>
        maptrack.get(row, 'frame') === frame && (!writable || maptrack.get(row, 'writable') !== 0),
    )
  }

  handlesOf(domid: number): number[] {
    return ownersOf(this.#state.maptrack).flatMap(([row, owner]) => (owner === domid ? [row] : []))
  }

  /**
   * Recounts all mappings after a hypercall was interrupted. The maptrack's rows are authoritative:
   * a row's owner is set last and cleared first.
   */
  recount(): void {
    const { frames, maptrack, header } = this.#state
    for (const [frame] of ownersOf(frames)) frames.set(frame, 'maps', 0)
    const rows = ownersOf(maptrack)
    header.set(0, 'mapped', rows.length)
    for (const [row] of rows) {
      this.#frames.addMap(maptrack.get(row, 'frame'), maptrack.get(row, 'writable') !== 0)
    }
    for (const { grantor, gref, frame } of this.#grants.list()) {
      this.#grants.noteMaps(grantor, gref, frame)
    }
  }

  /**
   * Checks that all pages may be mapped and are contiguous in memory.
   * @returns the first frame
   */
  #contiguous(domid: number, refs: readonly GrantRef[], writable: boolean): number {
    let first = 0
    for (const [page, { domid: grantor, gref }] of refs.entries()) {
      const refuse = (status: number, why: string) =>
        new GrantError(
          `cannot map gref ${gref} of domain ${grantor}: ${gntstName(status)}, ${why}`,
          { status, domid: grantor, gref },
        )
      const found = this.#grants.lookUp(grantor, gref, domid, writable)
      if (found < 0) throw refuse(found, this.#grants.refusal(grantor, gref, domid))
      if (page === 0) first = found
      else if (found !== first + page) {
        throw refuse(
          GNTST.general_error,
          'its page does not follow the one before in memory, and sim has no MMU to make them contiguous: map it on its own',
        )
      }
    }
    return first
  }
}
