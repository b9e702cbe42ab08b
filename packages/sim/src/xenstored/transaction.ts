/**
 * A transaction's view of the store: a snapshot of every node that it has read, and its own
 * changes. It commits only if all these nodes are unchanged in the store. They include the parents
 * of nodes that it created or removed, and nodes that it found missing.
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
  /** The node when it was first read; undefined if it was missing. */
  readonly original: StoreNode | undefined
  node: StoreNode | undefined
  isModified: boolean
  /** Which watches the commit fires for this node. */
  reach: Change['reach'] | undefined
}

/** A transaction in progress. */
export class Transaction implements Tree {
  readonly #store: Store
  readonly #domain: Domain
  /** Nodes in the order in which they were first read, which is the order of the commit. */
  readonly #touched = new Map<string, Touched>()
  /** Per domid: by how much the transaction changes the number of nodes that the domain owns. */
  readonly #owned = new Map<number, number>()
  /**
   * Length of the prefix of a snapshot's key as C xenstored counts it: the transaction's generation
   * and a slash.
   */
  readonly #prefix: number
  /** Bytes of the transaction's snapshots, which count for the domain that started it. */
  #memory = 0
  #creates = false
  #isBroken = false

  /** @param domain the domain that started the transaction, whose quota counts */
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

  /** Frees the transaction's snapshots. Called at its end. */
  close(): void {
    this.#use(-this.#memory)
  }

  /** Records which watches the commit fires for a node. Reach `subtree` includes reach `node`. */
  noteChange({ path, reach }: Change): void {
    const touched = this.#touch(path)
    if (touched.reach !== 'subtree') touched.reach = reach
  }

  /**
   * Applies the transaction's changes to the store, one node after the other.
   * @param changed called after each change, before the next
   * @throws Refusal ENOMEM if an earlier request broke the transaction, ENOSPC over quota, EAGAIN
   * after a conflict; nothing has changed then
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
   * Checks the quota of all domains whose number of nodes changes. A transaction may reach one node
   * less than the quota.
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
