export type { XsAccess, XsAclEntry, XsPermissions } from '@xenkit/wire'
export { openXenstore, type XenstoreClient } from './client.ts'
export type { ConnectionOptions, Outage } from './connection.ts'
export { XenstoreClosedError } from './errors.ts'
export {
  type NodeDefinition,
  type NodeTable,
  type NodeType,
  type NodeValuesOf,
  type NodeValuesToWrite,
  defineNodes,
} from './node-table.ts'
export { parseDecimal, parseFlag } from './parse.ts'
export type { TransactionOptions } from './transaction.ts'
export type { XenstoreReader, XenstoreView } from './view.ts'
export type { WaitOptions } from './wait.ts'
export type { WatchOptions } from './watch.ts'
