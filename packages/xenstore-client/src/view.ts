/**
 * Operations on nodes. They are the same directly, within a transaction, and (reads only) within
 * `wait`.
 *
 * Paths are absolute, or relative to this domain's /local/domain/DOMID. Every method rejects with
 * - RangeError for a path or a value that xenstore can't hold; nothing is sent
 * - XenstoreError with xenstored's errno name
 * - XenstoreClosedError when the connection is over
 */
import type { XsPermissions } from '@xenkit/wire'

/** Reads of nodes. */
export interface XenstoreReader {
  /** Reads the node's value as UTF-8. ENOENT if there is no node. */
  read(path: string): Promise<string>
  /** Reads the node's value as bytes. ENOENT if there is no node. */
  readBytes(path: string): Promise<Uint8Array>
  /** Reads the node's value as UTF-8, or `undefined` if there is no node. */
  readOptional(path: string): Promise<string | undefined>
  /** Whether there is a node. */
  exists(path: string): Promise<boolean>
  /** Lists the names of the node's children. ENOENT if there is no node. */
  list(path: string): Promise<string[]>
  /**
   * Reads the node's permissions.
   * @param path also `@introduceDomain` or `@releaseDomain`; Xen before 4.18 accepts those in
   *   `setPerms` alone
   */
  getPerms(path: string): Promise<XsPermissions>
}

/** Reads and writes of nodes. */
export interface XenstoreView extends XenstoreReader {
  /** Writes the value; creates the node and missing parents. */
  write(path: string, value: string | Uint8Array): Promise<void>
  /** Creates an empty node and missing parents. An existing node stays as it is. */
  mkdir(path: string): Promise<void>
  /**
   * Removes the node and everything below it. A missing node or parent is no error (xenstored
   * answers ENOENT for a missing parent): afterwards the node doesn't exist.
   */
  rm(path: string): Promise<void>
  /**
   * Replaces all permissions. Only domain 0 may change the owner. Permissions of a special path say
   * who may watch it.
   */
  setPerms(path: string, permissions: XsPermissions): Promise<void>
}
