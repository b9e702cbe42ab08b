/** The frame allocator, and the number of mappings of each frame. Callers hold the machine lock. */
import { ArenaFullError } from '@xenkit/hypervisor'
import { type MachineState, ownersOf } from './machine-state.ts'

/** Weight of a writable mapping in a frame's `maps`; a read-only one weighs 1. */
const WRITABLE = 1 << 16

/** Frames of machine memory. */
export class Frames {
  readonly #state: MachineState

  constructor(state: MachineState) {
    this.#state = state
  }

  /**
   * Allocates a run of frames for `domid`, with their old contents. The search starts after the
   * last allocation (next fit). So a freed frame isn't reused at once, and a use after free shows.
   * @returns the first frame
   * @throws ArenaFullError if no run is free
   */
  allocate(domid: number, count: number): number {
    const { frames, header, shared } = this.#state
    const next = header.get(0, 'nextFrame')
    const first =
      this.#freeRun(next, shared.limits.pages, count) ??
      this.#freeRun(1, Math.min(next + count, shared.limits.pages), count)
    if (first === undefined) {
      throw new ArenaFullError(
        `no run of ${count} free pages in a machine of ${shared.limits.pages}: create it with more "pages"`,
        { domid, pages: count },
      )
    }
    for (let frame = first; frame < first + count; frame++) frames.set(frame, 'owner', domid + 1)
    header.set(0, 'nextFrame', first + count)
    return first
  }

  #freeRun(from: number, to: number, count: number): number | undefined {
    let run = 0
    for (let frame = from; frame < to; frame++) {
      run = this.#state.frames.get(frame, 'owner') === 0 ? run + 1 : 0
      if (run === count) return frame - count + 1
    }
    return undefined
  }

  /** Frees a frame at once or, while it is mapped, when its last mapping ends. */
  free(frame: number): void {
    if (this.isMapped(frame)) this.#state.frames.set(frame, 'orphan', 1)
    else this.#state.frames.clear(frame)
  }

  freeAllOf(domid: number): void {
    for (const [frame, owner] of ownersOf(this.#state.frames)) if (owner === domid) this.free(frame)
  }

  isMapped(frame: number): boolean {
    return this.#state.frames.get(frame, 'maps') !== 0
  }

  isMappedWritable(frame: number): boolean {
    return this.#state.frames.get(frame, 'maps') >= WRITABLE
  }

  addMap(frame: number, writable: boolean): void {
    this.#state.frames.add(frame, 'maps', writable ? WRITABLE : 1)
  }

  dropMap(frame: number, writable: boolean): void {
    this.#state.frames.add(frame, 'maps', writable ? -WRITABLE : -1)
    if (!this.isMapped(frame) && this.#state.frames.get(frame, 'orphan') !== 0) {
      this.#state.frames.clear(frame)
    }
  }

  /** Allocates frames for the copy that a read-only mapping shows. */
  allocateView(domid: number, count: number): number {
    const first = this.allocate(domid, count)
    for (let frame = first; frame < first + count; frame++) this.#state.frames.set(frame, 'view', 1)
    return first
  }

  isView(frame: number): boolean {
    return this.#state.frames.get(frame, 'view') !== 0
  }

  /**
   * Whether the domain owns the frame and hasn't freed it; with `writable`, also whether it may
   * store to it.
   */
  isOwn(domid: number, frame: number, writable: boolean): boolean {
    if (writable && this.isView(frame)) return false
    return (
      this.#state.frames.get(frame, 'owner') === domid + 1 &&
      this.#state.frames.get(frame, 'orphan') === 0
    )
  }
}
