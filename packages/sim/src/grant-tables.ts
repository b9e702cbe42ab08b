/**
 * The grant table of every domain, in the layout of grant_entry_v1. Callers hold the machine lock.
 *
 * Status codes are those of xen/common/grant_table.c. GNTST_general_error stands for an entry that
 * grants nothing, isn't for this domain, or isn't writable; GNTST_permission_denied is for security
 * modules.
 */
import { GNTST, GNTTAB_NR_RESERVED_ENTRIES, grant_entry_v1, GTF } from '@xenkit/wire'
import type { Frames } from './frames.ts'
import { type MachineState, ownersOf } from './machine-state.ts'

const { flags: FLAGS, domid: DOMID, frame: FRAME } = grant_entry_v1.at

/** A grant of one frame by `domid` to the domain `to`. */
export interface Grant {
  readonly domid: number
  readonly to: number
  readonly frame: number
  readonly writable: boolean
}

/** Operations on grants. */
export class GrantTables {
  readonly #state: MachineState
  readonly #frames: Frames
  readonly #view: DataView

  constructor(state: MachineState, frames: Frames) {
    this.#state = state
    this.#frames = frames
    this.#view = new DataView(state.shared.tables)
  }

  /**
   * Checks whether `grantee` may access a grant.
   * @returns the frame if it may, else a negative GNTST status
   */
  lookUp(grantor: number, gref: number, grantee: number, writable: boolean): number {
    if (!this.#state.isAlive(grantor)) return GNTST.bad_domain
    if (gref >= this.#state.shared.limits.grants) return GNTST.bad_gntref
    const flags = this.#flags(grantor, gref)
    if ((flags & GTF.type_mask) !== GTF.permit_access || this.#grantee(grantor, gref) !== grantee) {
      return GNTST.general_error
    }
    if (writable && flags & GTF.readonly) return GNTST.general_error
    return this.frame(grantor, gref)
  }

  /** Returns why `lookUp` refused, for an error text. */
  refusal(grantor: number, gref: number, grantee: number): string {
    if (!this.#state.isAlive(grantor)) return 'there is no such domain'
    if (gref >= this.#state.shared.limits.grants) {
      return `its grant table has ${this.#state.shared.limits.grants} entries`
    }
    if ((this.#flags(grantor, gref) & GTF.type_mask) !== GTF.permit_access) {
      return 'nothing is granted by this reference'
    }
    const granted = this.#grantee(grantor, gref)
    return granted === grantee ? 'it is granted read-only' : `it is granted to domain ${granted}`
  }

  /** Returns how many more grants the domain can make. */
  room(domid: number): number {
    return this.#usable() - this.#state.domains.get(this.#state.slot(domid), 'grants')
  }

  /** Grants a frame by a free reference. The caller has checked with `room` that there is one. */
  grant(o: Grant): number {
    let index = this.#state.random.below(this.#usable())
    while (this.#flags(o.domid, GNTTAB_NR_RESERVED_ENTRIES + index) !== 0) {
      index = (index + 1) % this.#usable()
    }
    const gref = GNTTAB_NR_RESERVED_ENTRIES + index
    this.grantBy(gref, o)
    this.#state.domains.add(this.#state.slot(o.domid), 'grants', 1)
    return gref
  }

  /** Grants a frame by a reserved reference, as the toolstack does before the domain runs. */
  grantBy(gref: number, o: Grant): void {
    const entry = this.#entry(o.domid, gref)
    this.#view.setUint16(entry + DOMID, o.to, true)
    this.#view.setUint32(entry + FRAME, o.frame, true)
    this.#view.setUint16(entry + FLAGS, GTF.permit_access | (o.writable ? 0 : GTF.readonly), true)
  }

  isMapped(domid: number, gref: number): boolean {
    return (this.#flags(domid, gref) & GTF.reading) !== 0
  }

  /**
   * Ends a grant and frees its frame. No domain can map the grant any more. While it is still
   * mapped, its entry and frame are kept.
   */
  revoke(domid: number, gref: number): void {
    const mapped = this.#flags(domid, gref) & (GTF.reading | GTF.writing)
    this.#view.setUint16(this.#entry(domid, gref) + FLAGS, mapped, true)
    this.#frames.free(this.frame(domid, gref))
    if (mapped === 0) this.#release(domid, gref)
  }

  /** Updates GTF_reading and GTF_writing of an entry from its frame's mappings. */
  noteMaps(domid: number, gref: number, frame: number): void {
    if (!this.#state.isAlive(domid) || this.frame(domid, gref) !== frame) return
    const before = this.#flags(domid, gref)
    const mapped =
      (this.#frames.isMapped(frame) ? GTF.reading : 0) |
      (this.#frames.isMappedWritable(frame) ? GTF.writing : 0)
    const after = (before & ~(GTF.reading | GTF.writing)) | mapped
    this.#view.setUint16(this.#entry(domid, gref) + FLAGS, after, true)
    if (after === 0 && before !== 0) this.#release(domid, gref)
  }

  frame(domid: number, gref: number): number {
    return this.#view.getUint32(this.#entry(domid, gref) + FRAME, true)
  }

  /** Empties the table of a destroyed domain. */
  clear(domid: number): void {
    new Uint8Array(
      this.#state.shared.tables,
      this.#entry(domid, 0),
      this.#state.shared.limits.grants * grant_entry_v1.size,
    ).fill(0)
  }

  /** Lists the grant references in use. */
  list(): {
    readonly grantor: number
    readonly gref: number
    readonly grantee: number
    readonly frame: number
  }[] {
    const used = []
    for (const [, grantor] of ownersOf(this.#state.domains)) {
      for (let gref = 0; gref < this.#state.shared.limits.grants; gref++) {
        if (this.#flags(grantor, gref) !== 0) {
          used.push({
            grantor,
            gref,
            grantee: this.#grantee(grantor, gref),
            frame: this.frame(grantor, gref),
          })
        }
      }
    }
    return used
  }

  #release(domid: number, gref: number): void {
    this.#view.setUint32(this.#entry(domid, gref) + FRAME, 0, true)
    this.#state.domains.add(this.#state.slot(domid), 'grants', -1)
  }

  #usable(): number {
    return this.#state.shared.limits.grants - GNTTAB_NR_RESERVED_ENTRIES
  }

  #flags(domid: number, gref: number): number {
    return this.#view.getUint16(this.#entry(domid, gref) + FLAGS, true)
  }

  #grantee(domid: number, gref: number): number {
    return this.#view.getUint16(this.#entry(domid, gref) + DOMID, true)
  }

  #entry(domid: number, gref: number): number {
    return (
      this.#state.grantTables +
      (this.#state.slot(domid) * this.#state.shared.limits.grants + gref) * grant_entry_v1.size
    )
  }
}
