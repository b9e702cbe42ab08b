/**
 * xenstored's nodes, in one map by path. A node is replaced, never changed, so a reference to a
 * node is a snapshot. A node's generation shows whether the node has changed since a transaction
 * read it.
 */
import type { XsdError } from '@xenkit/wire'
import type { Domains } from './domains.ts'
import { marked, type NodePermissions } from './permissions.ts'
import { Refusal } from './refusal.ts'

/** A node without its generation. */
export interface NodeContent {
  readonly value: Uint8Array
  readonly perms: NodePermissions
  /** List of the node's children; children.ts describes the form. */
  readonly children: string
}

/**
 * Returns the bytes that C xenstored counts for a node without its path: a header of 24, 8 per
 * permission, the value and the children's names.
 */
export const sizeOf = ({ perms, value, children }: NodeContent): number =>
  24 + 8 * (1 + perms.acl.length) + value.length + children.length

/** A node in the store. */
export interface StoreNode extends NodeContent {
  readonly generation: number
}

/** A tree that requests work on: the store itself, or a transaction's view of it. */
export interface Tree {
  /** Returns the node, with permissions that name a gone domain marked void. */
  get(path: string): StoreNode | undefined
  /**
   * Creates or changes a node. The caller updates the parent's list of children and the owner's
   * count.
   */
  put(path: string, content: NodeContent): void
  delete(path: string): void
  /** Adds to the number of nodes that a domain owns. */
  count(domid: number, more: 1 | -1): void
  /** Called before nodes are created. */
  creating(): void
  /** Undoes the creation of a node, without counting a change. */
  erase(path: string): void
  /** Whether the domain that pays for the node has memory to put `content` in its place. */
  hasMemory(path: string, content: NodeContent): boolean
  /** Throws the error for a `put` for which the domain has no memory. */
  refuse(errno: XsdError): never
}

/**
 * Returns the node as its permissions were meant: one that named a domain which has been destroyed
 * since is void, and isn't a later domain's of the same domid.
 */
export function asMeant(node: StoreNode, domains: Domains): StoreNode {
  const perms = marked(node.perms, (domid) => domains.isMeant(domid, node.generation))
  return perms === node.perms ? node : { ...node, perms }
}

/** The store's own nodes. */
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

  /** Replaces a node, whose memory counts for its owner. */
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
