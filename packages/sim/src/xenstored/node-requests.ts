/** Reading and writing nodes. */
import { DOMID_ANY, formatXsPermissions, parseXsPermissions, XENSTORE_PAYLOAD_MAX, XENSTORE_SERVER_FEATURE, XS, type XsPermissions } from '@xenkit/wire'
import { atoi, oneString, strings } from './arguments.ts'
import { latin1 } from './latin1.ts'
import { resolvePath } from './path.ts'
import { Refusal } from './refusal.ts'
import type { Handlers, Request } from './requests.ts'
import type { StoreNode } from './store.ts'
import { lookUp, mkdir, rm, setPerms, write } from './tree-operations.ts'

const OK = 'OK\0'

const path = ({ payload, domain }: Request): string => resolvePath(oneString(payload), domain)

/** What a domain may say: without the feature there is no DOMID_ANY. */
function permsOf({ domain }: Request, perms: XsPermissions): XsPermissions {
  if ((domain.features & XENSTORE_SERVER_FEATURE.DOMID_ANY) !== 0) return perms
  if (perms.owner === DOMID_ANY) throw new Refusal('ENOENT')
  return { ...perms, acl: perms.acl.filter(({ domid }) => domid !== DOMID_ANY) }
}

/** Names of children, each with its NUL. @returns undefined if that is longer than a message */
function childList({ children }: StoreNode): string | undefined {
  let list = ''
  for (const name of children) {
    list += `${name}\0`
    if (list.length > XENSTORE_PAYLOAD_MAX) return undefined
  }
  return list
}

/** As much of the list of children as a message holds besides `generation`, from byte `offset` of it on; an empty name behind the last. */
function childListPart({ children }: StoreNode, offset: number, generation: string): string {
  let part = generation
  let at = 0
  for (const name of children) {
    const skipped = Math.max(offset - at, 0)
    at += name.length + 1
    if (at <= offset) continue
    // The empty name has to fit, too.
    if (part.length + name.length - skipped + 1 >= XENSTORE_PAYLOAD_MAX) return part
    part += `${name.slice(skipped)}\0`
  }
  return `${part}\0`
}

export const nodeRequests: Handlers = [
  [XS.READ, { run: (r) => r.reply(lookUp(r, path(r), 'read').value) }],
  [XS.DIRECTORY, {
    run: (r) => {
      const list = childList(lookUp(r, path(r), 'read'))
      if (list === undefined) throw new Refusal('E2BIG')
      r.reply(list)
    },
  }],
  [XS.DIRECTORY_PART, {
    run: (r) => {
      const [parent, offset, ...more] = strings(r.payload)
      if (parent === undefined || offset === undefined || more.length > 0) throw new Refusal('EINVAL')
      const node = lookUp(r, resolvePath(parent, r.domain), 'read')
      r.reply(childListPart(node, atoi(offset) >>> 0, `${node.generation}\0`))
    },
  }],
  [XS.WRITE, {
    run: (r) => {
      const nul = r.payload.indexOf(0)
      if (nul < 0) throw new Refusal('EINVAL')
      write(r, resolvePath(latin1(r.payload.subarray(0, nul)), r.domain), r.payload.slice(nul + 1))
      r.reply(OK)
    },
  }],
  [XS.MKDIR, { run: (r) => { mkdir(r, path(r)); r.reply(OK) } }],
  [XS.RM, { run: (r) => { rm(r, path(r)); r.reply(OK) } }],
  [XS.GET_PERMS, { run: (r) => r.reply(formatXsPermissions(lookUp(r, resolvePath(oneString(r.payload), r.domain, 'special'), 'read').perms)) }],
  [XS.SET_PERMS, {
    run: (r) => {
      const [node = '', ...entries] = strings(r.payload)
      const perms = parseXsPermissions(entries)
      if (!perms) throw new Refusal('EINVAL')
      setPerms(r, resolvePath(node, r.domain, 'special'), permsOf(r, perms))
      r.reply(OK)
    },
  }],
]
