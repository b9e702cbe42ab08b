/** Operations on nodes, with permissions and quotas, on the store or within a transaction. */
import { childNames, withChild, withoutChild } from './children.ts'
import type { Domain } from './domain.ts'
import { childOf, nameOf, parentOf } from './path.ts'
import { allows, type Need, type NodePermissions, owns } from './permissions.ts'
import { Refusal } from './refusal.ts'
import { type NodeContent, sizeOf, type StoreNode, type Tree } from './store.ts'
import type { Change } from './watches.ts'

/** Source of a request: the domain, the tree that it works on, and a receiver of its changes. */
export interface Requester {
  readonly domain: Domain
  readonly tree: Tree
  changed(change: Change): void
}

/** xenstored itself as the source of changes; it needs no permission. */
type Itself = Pick<Requester, 'tree' | 'changed'>

const NO_VALUE = new Uint8Array()

function put({ domain, tree }: Requester, path: string, content: NodeContent): void {
  if (sizeOf(content) >= domain.limit('node-size')) tree.refuse('ENOSPC')
  if (!tree.hasMemory(path, content)) tree.refuse('ENOMEM')
  tree.put(path, content)
}

/** Returns the nearest ancestor that exists; `/` always does. */
function nearestAbove(tree: Tree, path: string): StoreNode {
  const above = parentOf(path)
  const node = tree.get(above)
  if (!node && above === '/') throw new Refusal('EIO')
  return node ?? nearestAbove(tree, above)
}

/**
 * Finds a node. A domain that may access neither the node nor its nearest existing ancestor gets
 * EACCES, whether the node exists or not.
 */
function find(
  { domain, tree }: Requester,
  path: string,
  need: Need,
  may = allows,
): StoreNode | undefined {
  const node = tree.get(path)
  if (node && may(node.perms, domain, need)) return node
  const isAllowedAbove = allows(nearestAbove(tree, path).perms, domain, need)
  if (node || !isAllowedAbove) throw new Refusal('EACCES')
  return undefined
}

/**
 * Returns a node for which the domain has the right.
 * @throws Refusal ENOENT if it is missing, EACCES without the right
 */
export function lookUp(requester: Requester, path: string, need: Need, may = allows): StoreNode {
  const node = find(requester, path, need, may)
  if (!node) throw new Refusal('ENOENT')
  return node
}

/**
 * Creates the path and its missing parents. They inherit permissions; a guest owns the nodes that
 * it creates.
 */
function create(requester: Requester, path: string, value: Uint8Array): void {
  const { domain, tree } = requester
  const missing = [path]
  let above = parentOf(path)
  let parent = tree.get(above)
  for (; !parent && above !== '/'; parent = tree.get(above)) {
    missing.push(above)
    above = parentOf(above)
  }
  if (!parent) throw new Refusal('EIO')
  tree.creating()
  const perms = domain.isPrivileged ? parent.perms : { ...parent.perms, owner: domain.domid }
  const created: string[] = []
  let children = ''
  try {
    for (const at of missing) {
      if (domain.used('nodes') >= domain.limit('nodes')) throw new Refusal('ENOSPC')
      put(requester, at, { perms, value: at === path ? value : NO_VALUE, children })
      tree.count(perms.owner, 1)
      created.push(at)
      children = withChild('', nameOf(at))
    }
    put(requester, above, { ...parent, children: parent.children + children })
  } catch (error) {
    for (const at of created) {
      tree.erase(at)
      tree.count(perms.owner, -1)
    }
    throw error
  }
}

/** Sets a node's value; creates the node and missing parents. */
export function write(requester: Requester, path: string, value: Uint8Array): void {
  const node = find(requester, path, 'write')
  if (node) put(requester, path, { ...node, value })
  else create(requester, path, value)
  requester.changed({ path, reach: 'subtree' })
}

/** Creates an empty node and missing parents; an existing node stays unchanged. */
export function mkdir(requester: Requester, path: string): void {
  if (find(requester, path, 'write')) return
  create(requester, path, NO_VALUE)
  requester.changed({ path, reach: 'subtree' })
}

/** Removes a node. A missing node is no error, unless its parent is missing too. */
export function rm(requester: Requester, path: string): void {
  const node = find(requester, path, 'write')
  if (node && path === '/') throw new Refusal('EINVAL')
  const parent = requester.tree.get(parentOf(path))
  // The parent is missing only in a transaction that can't commit: it read the parent before others
  // created both nodes.
  if (!parent) throw new Refusal(node ? 'EINVAL' : 'ENOENT')
  if (node) removeTree(requester, path, node, parent)
}

function removeTree(itself: Itself, path: string, node: StoreNode, parent: StoreNode): void {
  try {
    removeNodes(itself, path, node, { reach: 'subtree', parentPerms: parent.perms })
  } catch (error) {
    throw error instanceof Refusal ? new Refusal('EIO') : error
  }
  const children = withoutChild(parent.children, nameOf(path))
  // The name is missing from the parent's list only in a transaction that can't commit, as above.
  if (children === undefined) throw new Refusal('EIO')
  itself.tree.put(parentOf(path), { ...parent, children })
}

/**
 * Removes children first, with their names. Each removal is reported while the node's permissions
 * are still known.
 */
function removeNodes(
  itself: Itself,
  path: string,
  node: StoreNode,
  { reach, parentPerms }: { reach: Change['reach']; parentPerms: NodePermissions },
): void {
  for (let { children } = node; children !== ''; itself.tree.put(path, { ...node, children })) {
    const end = children.indexOf('\0')
    const childPath = childOf(path, children.slice(0, end))
    const child = itself.tree.get(childPath)
    if (!child) throw new Refusal('ENOENT')
    removeNodes(itself, childPath, child, { reach: 'node', parentPerms: node.perms })
    children = children.slice(end + 1)
  }
  itself.tree.delete(path)
  itself.tree.count(node.perms.owner, -1)
  itself.changed({ path, reach, removed: { perms: node.perms, parentPerms } })
}

/**
 * Removes the nodes that a domain owns, and everything below them. `/` stays, and belongs to domain
 * 0 again.
 */
export function removeOwned(itself: Itself, domain: Domain, path = '/'): void {
  const node = itself.tree.get(path)
  if (!node) return
  if (node.perms.owner === domain.domid) {
    const parent = itself.tree.get(parentOf(path))
    if (path !== '/') return parent && removeTree(itself, path, node, parent)
    itself.tree.put('/', { ...node, perms: { ...node.perms, owner: 0 } })
    itself.tree.count(domain.domid, -1)
    itself.tree.count(0, 1)
  }
  for (const name of childNames(node.children)) {
    if (domain.used('nodes') === 0) return
    removeOwned(itself, domain, childOf(path, name))
  }
}

/** Sets a node's permissions. Only its owner may, and only domain 0 may change the owner. */
export function setPerms(requester: Requester, path: string, perms: NodePermissions): void {
  const { domain, tree } = requester
  const node = lookUp(requester, path, 'write', owns)
  if (!domain.isPrivileged && perms.owner !== node.perms.owner) throw new Refusal('EPERM')
  put(requester, path, { ...node, perms })
  tree.count(node.perms.owner, -1)
  tree.count(perms.owner, 1)
  requester.changed({ path, reach: 'subtree', formerPerms: node.perms })
}
