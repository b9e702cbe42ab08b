/**
 * What can be done with nodes: the same directly, within a transaction, and (reading) within
 * `wait`.
 *
 * Paths are absolute, or relative to the own domain's /local/domain/DOMID. Every method rejects
 * with
 * - RangeError for a path or a value that xenstore can't hold: nothing is sent
 * - XenstoreError with xenstored's errno name
 * - XenstoreClosedError when the connection is over
 */
import type { XsPermissions } from '@xenkit/wire'

export interface XenstoreReader {
  /** The node's value as UTF-8. ENOENT where there is no node. */
  read(path: string): Promise<string>
  /** The node's value as it is. */
  readBytes(path: string): Promise<Uint8Array>
  /** As `read`, but `undefined` where there is no node. */
  readOptional(path: string): Promise<string | undefined>
  exists(path: string): Promise<boolean>
  /** Names of the node's children. */
  list(path: string): Promise<string[]>
  /**
   * @param path may be `@introduceDomain` or `@releaseDomain`, which Xen before 4.18 takes for
   * `setPerms` alone
   */
  getPerms(path: string): Promise<XsPermissions>
}

export interface XenstoreView extends XenstoreReader {
  /** Creates the node and its parents where they are missing. */
  write(path: string, value: string | Uint8Array): Promise<void>
  /**
   * Creates the node, empty, and its parents where they are missing. Leaves an existing one as it
   * is.
   */
  mkdir(path: string): Promise<void>
  /**
   * Removes the node and all below it. A node that isn't there is no error, nor is a missing parent
   * (which xenstored itself would answer with ENOENT): afterwards the node is gone.
   */
  rm(path: string): Promise<void>
  /**
   * Replaces all permissions. Only domain 0 may name another owner. Those of a special path say who
   * may watch it.
   */
  setPerms(path: string, permissions: XsPermissions): Promise<void>
}
