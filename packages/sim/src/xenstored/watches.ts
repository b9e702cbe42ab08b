/**
 * All watches, by the path that they watch: a change asks only for its own path and the paths above
 * it.
 */
import { parentOf, upwards } from './path.ts'
import { allows, type NodePermissions, type Subject } from './permissions.ts'
import type { Tree } from './store.ts'

export interface Change {
  readonly path: string
  /**
   * `subtree`: for watches on the path and above it. `node`: only for those on the path (it went
   * with its parent).
   */
  readonly reach: 'subtree' | 'node'
  /** Where a node was removed: what it can't be asked for any more. */
  readonly removed?: { readonly perms: NodePermissions; readonly parentPerms: NodePermissions }
  /** Permissions before the change: who could read the node then is told of it. */
  readonly formerPerms?: NodePermissions | undefined
}

export interface Watch {
  readonly path: string
  readonly token: string
  /** Levels below `path` that matter; unlimited where absent. */
  readonly depth: number | undefined
  /** Length of what its events' paths omit: a watch on a relative path hears relative paths. */
  readonly prefix: number
  /** Whose rights count. */
  readonly subject: Subject
  notify(path: string): void
}

export type SpecialPath = '@introduceDomain' | '@releaseDomain'

export class Watches {
  /** Each with its number in the order of their setting. */
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
   * Tells those who may read the node, or could before, or may read its parent, in the order in
   * which they set their watches.
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
   * Tells those who may read `perms`, the special path's. Without a depth a special watch hears its
   * own path; with one, or on a domain's own path, it hears which domain.
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
