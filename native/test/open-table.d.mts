import type { BlockEngine } from '../index.js'

/** A table of a block engine, with views of its columns. */
export interface OpenTable {
  readonly number: number
  readonly position: Float64Array
  readonly length: Float64Array
  readonly file: Uint32Array
  readonly first: Uint32Array
  readonly count: Uint32Array
  readonly result: Int32Array
  readonly list: Uint32Array
  readonly offset: Uint32Array
  readonly bytes: Uint32Array
  readonly operation: Uint8Array
}

/** Adds a table to an engine, by default with one job and one vector. */
export function openTable(engine: BlockEngine, jobs?: number, vectors?: number): OpenTable
