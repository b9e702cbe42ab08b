/** A shared store's module whose store lacks operations of the original. */
import type { BlockStore } from '../../../src/index.ts'

const open = (): BlockStore => ({ sectors: 64, read: () => {} })

export default open
