/**
 * The xenstore nodes that a toolstack gives a domain. They are created with the domain, as libxl
 * does (libxl__domain_make in libxl_create.c), and removed when it is destroyed.
 */
import type { XsPermissions } from '@xenkit/wire'
import type { Xenstored } from './xenstored/index.ts'
import { mkdir, type Requester, rm, setPerms, write } from './xenstored/tree-operations.ts'

/** Nodes below a domain's home that the domain may only read. */
const READ_ONLY = ['cpu', 'memory', 'device', 'control']
/**
 * Nodes that the domain owns. "device" isn't one of them, because the toolstack creates devices.
 */
const OWNED = [
  'device/suspend/event-channel',
  'control/shutdown',
  'control/feature-poweroff',
  'control/feature-reboot',
  'control/feature-suspend',
  'control/sysrq',
  'data',
  'drivers',
  'feature',
  'attr',
  'error',
]

const encoder = new TextEncoder()

/** Creates the nodes of a new domain. */
export function makeDomainNodes(
  xenstored: Xenstored,
  o: { readonly domid: number; readonly name: string },
): void {
  const requester = toolstack(xenstored)
  // The domain must be known before permissions name it, or they would mean an earlier domain of
  // this id.
  xenstored.domains.know(o.domid)
  const readable: XsPermissions = {
    owner: 0,
    access: 'none',
    acl: [{ domid: o.domid, access: 'read' }],
  }
  const owned: XsPermissions = { owner: o.domid, access: 'none', acl: [] }
  const make = (path: string, perms: XsPermissions): void => {
    mkdir(requester, path)
    setPerms(requester, path, perms)
  }
  const home = homeOf(o.domid)
  const vm = vmOf(o.domid)
  make(home, readable)
  make(vm, readable)
  for (const name of READ_ONLY) make(`${home}/${name}`, readable)
  for (const name of OWNED) make(`${home}/${name}`, owned)
  const values: Readonly<Record<string, string>> = {
    [`${home}/vm`]: vm,
    [`${home}/name`]: o.name,
    [`${home}/domid`]: String(o.domid),
    [`${home}/control/platform-feature-multiprocessor-suspend`]: '1',
    [`${home}/control/platform-feature-xs_reset_watches`]: '1',
    [`${vm}/name`]: o.name,
  }
  for (const [path, value] of Object.entries(values)) write(requester, path, encoder.encode(value))
}

/** Removes the nodes of a domain. */
export function removeDomainNodes(xenstored: Xenstored, domid: number): void {
  for (const path of [homeOf(domid), vmOf(domid)]) rm(toolstack(xenstored), path)
}

const homeOf = (domid: number): string => `/local/domain/${domid}`
/** Returns the path of the domain's /vm node. A simulated domain's uuid is its domid. */
const vmOf = (domid: number): string =>
  `/vm/00000000-0000-0000-0000-${String(domid).padStart(12, '0')}`

const toolstack = (xenstored: Xenstored): Requester => ({
  domain: xenstored.dom0,
  tree: xenstored.store,
  changed: (change) => xenstored.watches.fire(change, xenstored.store),
})
