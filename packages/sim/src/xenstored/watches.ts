/** All watches, by the path that they watch: a change asks only for its own path and the paths above it. */
import type { XsPermissions } from '@xenkit/wire'
import { parentOf, upwards } from './path.ts'
import { allows, type Subject } from './permissions.ts'
import type { Tree } from './store.ts'

export interface Change {
  readonly path: string
  /** `subtree`: for watches on the path and above it. `node`: only for those on the path (it went with its parent). */
  readonly reach: 'subtree' | 'node'
  /** Permissions of a node that is being removed. Others are looked up. */
  readonly perms?: XsPermissions
  /** Permissions before the change: who could read the node then is told of it. */
  readonly formerPerms?: XsPermissions
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
  readonly #byPath = new Map<string, Set<Watch>>()

  add(watch: Watch): void {
    const watches = this.#byPath.get(watch.path)
    if (watches) watches.add(watch)
    else this.#byPath.set(watch.path, new Set([watch]))
  }

  remove(watch: Watch): void {
    const watches = this.#byPath.get(watch.path)
    watches?.delete(watch)
    if (watches?.size === 0) this.#byPath.delete(watch.path)
  }

  fire(change: Change, tree: Tree): void {
    const perms = change.perms ?? tree.get(change.path)?.perms
    const parentPerms = tree.get(parentOf(change.path))?.perms
    const readable = (subject: Subject): boolean =>
      (change.formerPerms !== undefined && allows(change.formerPerms, subject, 'read')) ||
      (perms !== undefined && (allows(perms, subject, 'read') || (parentPerms !== undefined && allows(parentPerms, subject, 'read'))))
    let level = 0
    for (const path of upwards(change.path)) {
      for (const watch of this.#byPath.get(path) ?? []) {
        if ((watch.depth === undefined || level <= watch.depth) && readable(watch.subject)) watch.notify(change.path.slice(watch.prefix))
      }
      if (change.reach === 'node') return
      level++
    }
  }

  /** Without a depth a special watch hears its own path; with one, or on a domain's own path, it hears which domain. */
  fireSpecial(special: SpecialPath, domid: number, tree: Tree): void {
    const perms = tree.get(special)?.perms
    const path = `${special}/${domid}`
    const notify = (watch: Watch, heard: string): void => {
      if (perms && allows(perms, watch.subject, 'read')) watch.notify(heard)
    }
    for (const watch of this.#byPath.get(special) ?? []) {
      if (watch.depth === undefined) notify(watch, special)
      else if (watch.depth > 0) notify(watch, path)
    }
    for (const watch of this.#byPath.get(path) ?? []) notify(watch, path)
  }
}
