/**
 * A transaction's view of the store: a snapshot of every node that it has looked at, changed where
 * it changed it. It commits only if all of those are in the store as it found them; this includes
 * the parents of nodes that it created or removed, and nodes that weren't there.
 */
import type { XsdError } from '@xenkit/wire'
import type { Domain } from './domain.ts'
import { Refusal } from './refusal.ts'
import {
  asMeant,
  type NodeContent,
  sizeOf,
  type Store,
  type StoreNode,
  type Tree,
} from './store.ts'
import type { Change } from './watches.ts'

interface Touched {
  /** As it was first looked at, undefined where it was absent. */
  readonly original: StoreNode | undefined
  node: StoreNode | undefined
  isModified: boolean
  /** What watches have to be told of. */
  reach: Change['reach'] | undefined
}

export class Transaction implements Tree {
  readonly #store: Store
  readonly #domain: Domain
  /** In the order in which they were first looked at, which is that of the commit. */
  readonly #touched = new Map<string, Touched>()
  /** How many more nodes each domain owns. */
  readonly #owned = new Map<number, number>()
  /**
   * What is before a path in the key of a snapshot, as C xenstored counts it: the transaction's
   * generation and a slash.
   */
  readonly #prefix: number
  /** Of its snapshots, which are kept for the domain that began it. */
  #memory = 0
  #creates = false
  #isBroken = false

  /** @param domain the domain that began it: its quota counts */
  constructor(store: Store, domain: Domain) {
    this.#store = store
    this.#domain = domain
    this.#prefix = String(++store.domains.generation).length + 1
  }

  get(path: string): StoreNode | undefined {
    const { node } = this.#touch(path)
    return node && asMeant(node, this.#store.domains)
  }

  put(path: string, { value, perms, children }: NodeContent): void {
    this.#modify(path, { value, perms, children, generation: ++this.#store.domains.generation })
  }

  delete(path: string): void {
    this.#store.domains.generation++
    this.#modify(path, undefined)
  }

  count(domid: number, more: number): void {
    this.#owned.set(domid, (this.#owned.get(domid) ?? 0) + more)
  }

  creating(): void {
    this.#creates = true
  }

  erase(path: string): void {
    this.#modify(path, undefined)
  }

  hasMemory(path: string, content: NodeContent): boolean {
    return this.#domain.hasMemory(
      this.#sizeOf(path, content) - this.#sizeOf(path, this.#touched.get(path)?.node),
    )
  }

  refuse(errno: XsdError): never {
    this.#isBroken = true
    return this.#store.refuse(errno)
  }

  /** It is over: its snapshots are given back. */
  close(): void {
    this.#use(-this.#memory)
  }

  /**
   * Remembers what watches have to be told once it is committed. A change of a subtree covers one
   * of a node.
   */
  noteChange({ path, reach }: Change): void {
    const touched = this.#touch(path)
    if (touched.reach !== 'subtree') touched.reach = reach
  }

  /**
   * Brings its changes into the store, one node after the other.
   * @param changed hears of each before the next
   * @throws Refusal ENOMEM if an earlier request broke it, ENOSPC over quota, EAGAIN after a
   *   conflict: then nothing has changed
   */
  commit(changed: (change: Change) => void): void {
    if (this.#isBroken) throw new Refusal('ENOMEM')
    this.#expectQuota()
    for (const [path, { original }] of this.#touched) {
      if (this.#store.get(path)?.generation !== original?.generation) throw new Refusal('EAGAIN')
    }
    for (const [path, { original, node, isModified, reach }] of this.#touched) {
      if (!isModified) continue
      if (node) this.#store.put(path, node)
      else this.#store.erase(path) // the change was counted when it was made
      if (reach) changed({ path, reach, formerPerms: original?.perms })
    }
    for (const [domid, more] of this.#owned) this.#store.count(domid, more)
  }

  /**
   * Of all domains the number of whose nodes has changed. A transaction may reach one less than the
   * quota.
   */
  #expectQuota(): void {
    for (const [domid, more] of this.#owned) {
      const owner = this.#store.domains.know(domid)
      if (!owner) throw new Refusal('ENOMEM')
      if (
        this.#creates &&
        !this.#domain.isPrivileged &&
        owner.used('nodes') + more >= owner.limit('nodes')
      ) {
        throw new Refusal('ENOSPC')
      }
    }
  }

  #touch(path: string): Touched {
    let touched = this.#touched.get(path)
    if (touched) return touched
    if (this.#touched.size >= this.#domain.limit('transaction-nodes')) {
      this.#isBroken = true
      throw new Refusal('ENOSPC')
    }
    const original = this.#store.get(path)
    touched = { original, node: original, isModified: false, reach: undefined }
    this.#touched.set(path, touched)
    this.#use(this.#sizeOf(path, original))
    return touched
  }

  #modify(path: string, node: StoreNode | undefined): void {
    const touched = this.#touch(path)
    this.#use(this.#sizeOf(path, node) - this.#sizeOf(path, touched.node))
    touched.node = node
    touched.isModified = true
  }

  #sizeOf(path: string, node: NodeContent | undefined): number {
    return node ? this.#prefix + path.length + sizeOf(node) : 0
  }

  #use(memory: number): void {
    this.#memory += memory
    this.#domain.use('memory', memory)
  }
}
