/**
 * The operations on nodes, with their permissions and quotas, on the store or within a transaction.
 */
import { childNames, withChild, withoutChild } from './children.ts'
import type { Domain } from './domain.ts'
import { childOf, nameOf, parentOf } from './path.ts'
import { allows, type Need, type NodePermissions, owns } from './permissions.ts'
import { Refusal } from './refusal.ts'
import { type NodeContent, sizeOf, type StoreNode, type Tree } from './store.ts'
import type { Change } from './watches.ts'

/** Who asks, what they work on, and where their changes are reported. */
export interface Requester {
  readonly domain: Domain
  readonly tree: Tree
  changed(change: Change): void
}

/** xenstored itself, whom nothing is refused. */
type Itself = Pick<Requester, 'tree' | 'changed'>

const NO_VALUE = new Uint8Array()

function put({ domain, tree }: Requester, path: string, content: NodeContent): void {
  if (sizeOf(content) >= domain.limit('node-size')) tree.refuse('ENOSPC')
  if (!tree.hasMemory(path, content)) tree.refuse('ENOMEM')
  tree.put(path, content)
}

/** The first node above that is there, as `/` is. */
function nearestAbove(tree: Tree, path: string): StoreNode {
  const above = parentOf(path)
  const node = tree.get(above)
  if (!node && above === '/') throw new Refusal('EIO')
  return node ?? nearestAbove(tree, above)
}

/**
 * A node that may not be touched, or isn't there, looks the same to those who may not look around
 * there.
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

export function lookUp(requester: Requester, path: string, need: Need, may = allows): StoreNode {
  const node = find(requester, path, need, may)
  if (!node) throw new Refusal('ENOENT')
  return node
}

/**
 * Creates the path and its missing parents. They inherit permissions; what a guest creates, it
 * owns.
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

export function write(requester: Requester, path: string, value: Uint8Array): void {
  const node = find(requester, path, 'write')
  if (node) put(requester, path, { ...node, value })
  else create(requester, path, value)
  requester.changed({ path, reach: 'subtree' })
}

export function mkdir(requester: Requester, path: string): void {
  if (find(requester, path, 'write')) return
  create(requester, path, NO_VALUE)
  requester.changed({ path, reach: 'subtree' })
}

/** Removing what isn't there is fine, unless its parent isn't there either. */
export function rm(requester: Requester, path: string): void {
  const node = find(requester, path, 'write')
  if (node && path === '/') throw new Refusal('EINVAL')
  const parent = requester.tree.get(parentOf(path))
  // Only a transaction can miss the parent of a node: it looked there before others made both, and
  // can't be committed.
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
  // Another one that only a transaction sees which can't be committed.
  if (children === undefined) throw new Refusal('EIO')
  itself.tree.put(parentOf(path), { ...parent, children })
}

/** Children first, each with its name. Each is reported while who may hear of it is still known. */
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

/** Removes what a domain owns, and all below it. Only `/` stays, and is domain 0's again. */
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

/** Only the owner may, and only domain 0 may give a node to another owner. */
export function setPerms(requester: Requester, path: string, perms: NodePermissions): void {
  const { domain, tree } = requester
  const node = lookUp(requester, path, 'write', owns)
  if (!domain.isPrivileged && perms.owner !== node.perms.owner) throw new Refusal('EPERM')
  put(requester, path, { ...node, perms })
  tree.count(node.perms.owner, -1)
  tree.count(perms.owner, 1)
  requester.changed({ path, reach: 'subtree', formerPerms: node.perms })
}
