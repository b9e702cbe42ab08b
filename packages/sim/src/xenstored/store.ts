/**
 * The nodes, in one map by path. `generation` counts changes of the whole store: a node's own tells
 * whether it has changed since a transaction looked at it.
 */
import type { XsPermissions } from '@xenkit/wire'
import { nameOf, parentOf } from './path.ts'

export interface StoreNode {
  value: Uint8Array
  perms: XsPermissions
  /** Names. Owned by the node: changed in place. */
  readonly children: Set<string>
  generation: number
}

/** What requests work on: the store itself, or a transaction's view of it. */
export interface Tree {
  get(path: string): StoreNode | undefined
  /** The node of an existing path, to be changed in place by the caller. */
  edit(path: string): StoreNode
  /** Adds a node, and its name to its parent, which exists. */
  create(path: string, perms: XsPermissions): StoreNode
  /** Removes a node without children, and its name from its parent. */
  delete(path: string): void
  /** Nodes that a domain owns. */
  owned(domid: number): number
  setPerms(path: string, perms: XsPermissions): void
}

export const newNode = (perms: XsPermissions): StoreNode => ({ value: new Uint8Array(), perms, children: new Set(), generation: 0 })

export class Store implements Tree {
  readonly #nodes = new Map<string, StoreNode>()
  readonly #owned = new Map<number, number>()
  #generation = 0

  get(path: string): StoreNode | undefined {
    return this.#nodes.get(path)
  }

  edit(path: string): StoreNode {
    const node = this.#nodes.get(path)
    if (!node) throw new RangeError(`"${path}" isn't in the store`)
    node.generation = ++this.#generation
    return node
  }

  create(path: string, perms: XsPermissions): StoreNode {
    const node = newNode(perms)
    this.replace(path, node)
    if (path.startsWith('/') && path !== '/') this.edit(parentOf(path)).children.add(nameOf(path))
    return node
  }

  delete(path: string): void {
    this.replace(path, undefined)
    this.edit(parentOf(path)).children.delete(nameOf(path))
  }

  owned(domid: number): number {
    return this.#owned.get(domid) ?? 0
  }

  setPerms(path: string, perms: XsPermissions): void {
    this.replace(path, { ...this.edit(path), perms })
  }

  /** Puts a node in place, or takes it away, leaving its parent as it is: a transaction's commit brings that too. */
  replace(path: string, node: StoreNode | undefined): void {
    const old = this.#nodes.get(path)
    if (old) this.#count(old.perms.owner, -1)
    if (!node) {
      this.#nodes.delete(path)
      return
    }
    this.#count(node.perms.owner, 1)
    node.generation = ++this.#generation
    this.#nodes.set(path, node)
  }

  #count(owner: number, change: number): void {
    this.#owned.set(owner, this.owned(owner) + change)
  }
}
