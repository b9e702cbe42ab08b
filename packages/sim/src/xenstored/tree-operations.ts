/**
 * The operations on nodes, with their permissions and quotas, on the store or within a transaction.
 * Each checks everything first: a refused one has changed nothing.
 */
import type { XsPermissions } from '@xenkit/wire'
import type { Domain } from './domain.ts'
import { childOf, nameOf, parentOf, upwards } from './path.ts'
import { allows, type Need, owns } from './permissions.ts'
import { Refusal } from './refusal.ts'
import type { StoreNode, Tree } from './store.ts'
import type { Change } from './watches.ts'

/** Who asks, what they work on, and where their changes are reported. */
export interface Requester {
  readonly domain: Domain
  readonly tree: Tree
  changed(change: Change): void
}

/** Header (24) and 8 for each permission, as C xenstored counts. */
function nodeSize({ perms, value, children }: StoreNode): number {
  let size = 24 + 8 * (1 + perms.acl.length) + value.length
  for (const name of children) size += name.length + 1
  return size
}

function expectNodeSize({ domain }: Requester, node: StoreNode, more: number): void {
  if (!domain.isPrivileged && nodeSize(node) + more >= domain.limit('node-size')) throw new Refusal('ENOSPC')
}

function nearest(tree: Tree, path: string): { path: string; node: StoreNode } {
  for (const candidate of upwards(path)) {
    const node = tree.get(candidate)
    if (node) return { path: candidate, node }
  }
  throw new Refusal('ENOENT') // a special path that isn't one of the two
}

/** A node that isn't there, or may not be touched, looks the same to those who may not look around there. */
function find({ domain, tree }: Requester, path: string, need: Need): StoreNode | undefined {
  const node = tree.get(path)
  if (!allows((node ? { node } : nearest(tree, path)).node.perms, domain, need)) throw new Refusal('EACCES')
  return node
}

export function lookUp(requester: Requester, path: string, need: Need): StoreNode {
  const node = find(requester, path, need)
  if (!node) throw new Refusal('ENOENT')
  return node
}

/** Creates the path and its missing parents. They inherit permissions; what a guest creates, it owns. */
function createPath(requester: Requester, path: string, valueBytes: number): StoreNode {
  const { domain, tree } = requester
  const parent = nearest(tree, path)
  const missing = [...upwards(path)].filter((candidate) => candidate.length > parent.path.length).toReversed()
  const perms: XsPermissions = domain.isPrivileged ? parent.node.perms : { ...parent.node.perms, owner: domain.domid }
  const first = missing[0] ?? path
  expectNodeSize(requester, parent.node, nameOf(first).length + 1)
  expectNodeSize(requester, { value: new Uint8Array(), perms, children: new Set(), generation: 0 }, valueBytes)
  if (tree.owned(domain.domid) + missing.length > domain.limit('nodes')) throw new Refusal('ENOSPC')
  for (const ancestor of missing.slice(0, -1)) tree.create(ancestor, perms)
  return tree.create(path, perms)
}

export function write(requester: Requester, path: string, value: Uint8Array): void {
  const existing = find(requester, path, 'write')
  if (existing) expectNodeSize(requester, existing, value.length - existing.value.length)
  const node = existing ? requester.tree.edit(path) : createPath(requester, path, value.length)
  node.value = value
  requester.changed({ path, reach: 'subtree' })
}

export function mkdir(requester: Requester, path: string): void {
  if (find(requester, path, 'write')) return
  createPath(requester, path, 0)
  requester.changed({ path, reach: 'subtree' })
}

/** Removing what isn't there is fine, unless its parent isn't there either. */
export function rm(requester: Requester, path: string): void {
  const node = find(requester, path, 'write')
  if (path === '/') throw new Refusal('EINVAL')
  // A transaction that missed the parent, before another client made both, sees a node without one. It can't be committed.
  if (!requester.tree.get(parentOf(path))) throw new Refusal(node ? 'EINVAL' : 'ENOENT')
  if (node) removeTree(requester, path, node, 'subtree')
}

/** Children first. Each node is reported while its parent, and so who may hear of it, is still known. */
export function removeTree(requester: Pick<Requester, 'tree' | 'changed'>, path: string, node: StoreNode, reach: Change['reach']): void {
  for (const name of node.children) {
    const child = childOf(path, name)
    const childNode = requester.tree.get(child)
    if (childNode) removeTree(requester, child, childNode, 'node')
  }
  requester.changed({ path, reach, perms: node.perms })
  requester.tree.delete(path)
}

/** Only the owner may, and only domain 0 may give a node to another owner. */
export function setPerms(requester: Requester, path: string, perms: XsPermissions): void {
  const { domain, tree } = requester
  if (1 + perms.acl.length > domain.limit('node-permissions')) throw new Refusal('ENOSPC')
  const node = lookUp(requester, path, 'write')
  if (!owns(node.perms, domain)) throw new Refusal('EACCES')
  if (!domain.isPrivileged && perms.owner !== node.perms.owner) throw new Refusal('EPERM')
  expectNodeSize(requester, node, 8 * (perms.acl.length - node.perms.acl.length))
  const formerPerms = node.perms
  tree.setPerms(path, perms)
  requester.changed({ path, reach: 'subtree', formerPerms })
}
