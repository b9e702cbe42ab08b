import type { BlockEngine, Native } from '../index.js'

/** Opens a block engine; where the kernel has no memory for an io_uring, one of threads. */
export function newEngine(
  native: Pick<Native, 'BlockEngine'>,
  memory: Uint8Array,
  onDone: (count: number) => void,
  kind?: BlockEngine['kind'],
): BlockEngine
