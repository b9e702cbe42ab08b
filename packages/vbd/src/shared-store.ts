/**
 * How a store gets to other threads, which can't have the object itself: they are told what it is
 * made of, and make one of their own over the same bytes.
 */
import type { BlockStore } from './block-store.ts'

/** Disposed of when no other thread uses the store any more. */
export interface SharedStore extends Disposable {
  /** URL of a module whose default export is an `OpenSharedStore`. */
  readonly module: string
  /** What that is given: anything that goes through structured clone. */
  readonly data: unknown
}

/** @param size the store's, as it is at any time: who shares it tells of changes */
export type OpenSharedStore = (
  data: unknown,
  size: { readonly sectors: number },
) => BlockStore | Promise<BlockStore>
