import type { BlockEngine, Native } from '../index.js'

/** Opens a block engine. Falls back to threads when the kernel lacks memory for io_uring. */
export function newEngine(
  native: Pick<Native, 'BlockEngine'>,
  memory: Uint8Array,
  onDone: (count: number) => void,
  kind?: BlockEngine['kind'],
): BlockEngine
