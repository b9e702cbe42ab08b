/**
 * A transaction's view of the store: a copy of every node that it has looked at or changed, with the
 * generation it then had. It commits only if all of those still have that generation (an absent node
 * has to be absent still); this includes the parents of nodes that it created or removed.
 */
import type { XsPermissions } from '@xenkit/wire'
import type { Domain } from './domain.ts'
import { nameOf, parentOf } from './path.ts'
import { Refusal } from './refusal.ts'
import { newNode, type Store, type StoreNode, type Tree } from './store.ts'
import type { Change } from './watches.ts'

interface Touched {
  /** Of the node in the store when it was first looked at; undefined where it was absent. */
  readonly generation: number | undefined
  readonly original: XsPermissions | undefined
  node: StoreNode | undefined
  modified: boolean
}

const copyOf = (node: StoreNode): StoreNode => ({ ...node, children: new Set(node.children) })

export class Transaction implements Tree {
  readonly #store: Store
  readonly #domain: Domain
  readonly #touched = new Map<string, Touched>()
  readonly #ownedMore = new Map<number, number>()
  readonly #changes = new Map<string, Change>()
  #failed = false

  /** @param domain the domain that began it: its quota counts */
  constructor(store: Store, domain: Domain) {
    this.#store = store
    this.#domain = domain
  }

  get(path: string): StoreNode | undefined {
    return this.#touch(path).node
  }

  edit(path: string): StoreNode {
    const touched = this.#touch(path)
    if (!touched.node) throw new RangeError(`"${path}" isn't in the transaction`)
    touched.modified = true
    return touched.node
  }

  create(path: string, perms: XsPermissions): StoreNode {
    const node = newNode(perms)
    this.#put(path, node)
    this.edit(parentOf(path)).children.add(nameOf(path))
    return node
  }

  delete(path: string): void {
    this.#put(path, undefined)
    this.edit(parentOf(path)).children.delete(nameOf(path))
  }

  owned(domid: number): number {
    return this.#store.owned(domid) + (this.#ownedMore.get(domid) ?? 0)
  }

  setPerms(path: string, perms: XsPermissions): void {
    this.#put(path, { ...this.edit(path), perms })
  }

  /** Remembers what watches have to be told once it is committed. A change of a subtree covers one of a node. */
  noteChange(change: Change): void {
    const noted = this.#changes.get(change.path)
    if (!noted || change.reach === 'subtree') this.#changes.set(change.path, { path: change.path, reach: change.reach })
  }

  /**
   * Brings its changes into the store.
   * @returns what watches have to be told
   * @throws Refusal EAGAIN after a conflict, ENOSPC over quota, ENOMEM if an earlier request broke it
   */
  commit(): Change[] {
    if (this.#failed) throw new Refusal('ENOMEM')
    for (const [path, { generation }] of this.#touched) {
      if (this.#store.get(path)?.generation !== generation) throw new Refusal('EAGAIN')
    }
    const creates = (this.#ownedMore.get(this.#domain.domid) ?? 0) > 0
    if (creates && this.owned(this.#domain.domid) > this.#domain.limit('nodes')) throw new Refusal('ENOSPC')
    for (const [path, { modified, node }] of this.#touched) {
      if (modified) this.#store.replace(path, node)
    }
    return [...this.#changes.values()].map((change) => {
      const original = this.#touched.get(change.path)?.original
      return original ? { ...change, formerPerms: original } : change
    })
  }

  #touch(path: string): Touched {
    let touched = this.#touched.get(path)
    if (touched) return touched
    if (this.#touched.size >= this.#domain.limit('transaction-nodes')) {
      this.#failed = true
      throw new Refusal('ENOSPC')
    }
    const node = this.#store.get(path)
    touched = { generation: node?.generation, original: node?.perms, node: node && copyOf(node), modified: false }
    this.#touched.set(path, touched)
    return touched
  }

  #put(path: string, node: StoreNode | undefined): void {
    const touched = this.#touch(path)
    if (touched.node) this.#count(touched.node.perms.owner, -1)
    if (node) this.#count(node.perms.owner, 1)
    touched.node = node
    touched.modified = true
  }

  #count(owner: number, change: number): void {
    this.#ownedMore.set(owner, (this.#ownedMore.get(owner) ?? 0) + change)
  }
}
