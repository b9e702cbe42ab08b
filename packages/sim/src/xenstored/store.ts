/**
 * The nodes, in one map by path. A node is never changed, only replaced: who holds one has a
 * snapshot. Its generation tells whether it has changed since a transaction looked at it.
 */
import type { XsdError } from '@xenkit/wire'
import type { Domains } from './domains.ts'
import { marked, type NodePermissions } from './permissions.ts'
import { Refusal } from './refusal.ts'

export interface NodeContent {
  readonly value: Uint8Array
  readonly perms: NodePermissions
  /** See children.ts. */
  readonly children: string
}

/** Bytes as C xenstored counts them: header (24), 8 for each permission, value and names. */
export const sizeOf = ({ perms, value, children }: NodeContent): number =>
  24 + 8 * (1 + perms.acl.length) + value.length + children.length

export interface StoreNode extends NodeContent {
  readonly generation: number
}

/** What requests work on: the store itself, or a transaction's view of it. */
export interface Tree {
  /** The node, with what its permissions say of domains that are gone marked as void. */
  get(path: string): StoreNode | undefined
  /**
   * Makes or changes a node. Its name among its parent's children, and the count of its owner's
   * nodes, are the caller's business.
   */
  put(path: string, content: NodeContent): void
  delete(path: string): void
  /** A domain owns one node more, or less. */
  count(domid: number, more: 1 | -1): void
  /** Nodes are about to be made. */
  creating(): void
  /** Takes back that a node was made: that isn't a change. */
  erase(path: string): void
  /** Whether whoever has to keep it has the memory for a node in place of the one that is there. */
  hasMemory(path: string, content: NodeContent): boolean
  /** Instead of `put`, where there is no room. */
  refuse(errno: XsdError): never
}

export function asMeant(node: StoreNode, domains: Domains): StoreNode {
  const perms = marked(node.perms, (domid) => domains.isMeant(domid, node.generation))
  return perms === node.perms ? node : { ...node, perms }
}

export class Store implements Tree {
  readonly domains: Domains
  readonly #nodes = new Map<string, StoreNode>()

  constructor(domains: Domains) {
    this.domains = domains
  }

  get(path: string): StoreNode | undefined {
    const node = this.#nodes.get(path)
    return node && asMeant(node, this.domains)
  }

  put(path: string, { value, perms, children }: NodeContent): void {
    this.#replace(path, { value, perms, children, generation: ++this.domains.generation })
  }

  delete(path: string): void {
    this.domains.generation++
    this.#replace(path, undefined)
  }

  count(domid: number, more: number): void {
    this.domains.know(domid)?.use('nodes', more)
  }

  creating(): void {}

  erase(path: string): void {
    this.#replace(path, undefined)
  }

  hasMemory(path: string, content: NodeContent): boolean {
    const owner = this.domains.know(content.perms.owner)
    const node = this.#nodes.get(path)
    const freed = node && node.perms.owner === content.perms.owner ? path.length + sizeOf(node) : 0
    return !owner || owner.hasMemory(path.length + sizeOf(content) - freed)
  }

  refuse(errno: XsdError): never {
    this.domains.generation++
    throw new Refusal(errno)
  }

  /** A node is kept for its owner. */
  #replace(path: string, node: StoreNode | undefined): void {
    const old = this.#nodes.get(path)
    if (old) this.domains.know(old.perms.owner)?.use('memory', -path.length - sizeOf(old))
    if (node) {
      this.domains.know(node.perms.owner)?.use('memory', path.length + sizeOf(node))
      this.#nodes.set(path, node)
    } else {
      this.#nodes.delete(path)
    }
  }
}
