/**
 * The watches of all connections, by path. A change only looks up its own path and the paths above.
 */
import { parentOf, upwards } from './path.ts'
import { allows, type NodePermissions, type Subject } from './permissions.ts'
import type { Tree } from './store.ts'

/** A change of a node, for which watches fire. */
export interface Change {
  readonly path: string
  /**
   * `subtree`: fires watches on the path and above it. `node`: only watches on the path, because
   *   the node was removed with its parent.
   */
  readonly reach: 'subtree' | 'node'
  /** For a removed node: its permissions, which can't be looked up any more. */
  readonly removed?: { readonly perms: NodePermissions; readonly parentPerms: NodePermissions }
  /** Permissions before the change. Domains that could read the node then are notified too. */
  readonly formerPerms?: NodePermissions | undefined
}

/** A watch. */
export interface Watch {
  readonly path: string
  readonly token: string
  /** Levels below `path` to report; unlimited if absent. */
  readonly depth: number | undefined
  /**
   * Length of the prefix removed from events' paths: a watch on a relative path reports relative
   * paths.
   */
  readonly prefix: number
  /** The domain that set the watch, whose rights count. */
  readonly subject: Subject
  notify(path: string): void
}

export type SpecialPath = '@introduceDomain' | '@releaseDomain'

/** The watches of all connections. */
export class Watches {
  /** Watches of each path, numbered in the order in which they were set. */
  readonly #byPath = new Map<string, Map<Watch, number>>()
  #last = 0

  add(watch: Watch): void {
    const watches = this.#byPath.get(watch.path) ?? new Map<Watch, number>()
    this.#byPath.set(watch.path, watches.set(watch, ++this.#last))
  }

  remove(watch: Watch): void {
    const watches = this.#byPath.get(watch.path)
    watches?.delete(watch)
    if (watches?.size === 0) this.#byPath.delete(watch.path)
  }

  /**
   * Fires watches, in the order in which they were set. Only domains are notified that may read the
   * node, could before, or may read its parent.
   */
  fire({ path, reach, removed, formerPerms }: Change, tree: Tree): void {
    const concerned: [watch: Watch, number: number][] = []
    let level = 0
    for (const at of reach === 'node' ? [path] : upwards(path)) {
      for (const [watch, number] of this.#byPath.get(at) ?? []) {
        if (level <= (watch.depth ?? Infinity)) concerned.push([watch, number])
      }
      level++
    }
    if (concerned.length === 0) return
    const perms = removed?.perms ?? tree.get(path)?.perms
    const parentPerms = removed?.parentPerms ?? tree.get(parentOf(path))?.perms
    const isReadable = (subject: Subject): boolean =>
      (formerPerms !== undefined && allows(formerPerms, subject, 'read')) ||
      (perms !== undefined &&
        (allows(perms, subject, 'read') ||
          (parentPerms !== undefined && allows(parentPerms, subject, 'read'))))
    for (const [watch] of concerned.toSorted(([, a], [, b]) => a - b)) {
      if (isReadable(watch.subject)) watch.notify(path.slice(watch.prefix))
    }
  }

  /**
   * Fires watches on a special path, for domains that may read it by `perms`. A watch without a
   * depth reports its own path. A watch with a depth, or on the path of one domain, reports which
   * domain.
   */
  fireSpecial(special: SpecialPath, domid: number, perms: NodePermissions): void {
    const path = `${special}/${domid}`
    const notify = (watch: Watch, heard: string): void => {
      if (allows(perms, watch.subject, 'read')) watch.notify(heard)
    }
    for (const watch of this.#byPath.get(special)?.keys() ?? []) {
      if (watch.depth === undefined) notify(watch, special)
      else if (watch.depth > 0) notify(watch, path)
    }
    for (const watch of this.#byPath.get(path)?.keys() ?? []) notify(watch, path)
  }
}
