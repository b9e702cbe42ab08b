/** Handlers that read and write nodes. */
import {
  DOMID_ANY,
  formatXsPermissions,
  parseXsPermissions,
  XENSTORE_PAYLOAD_MAX,
  XENSTORE_SERVER_FEATURE,
  XS,
} from '@xenkit/wire'
import { atoi, oneString, strings, strtol } from './arguments.ts'
import { latin1 } from './latin1.ts'
import { isSpecial, resolvePath } from './path.ts'
import { marked, type NodePermissions, owns } from './permissions.ts'
import { Refusal } from './refusal.ts'
import type { Handler, Handlers, Request } from './request.ts'
import type { StoreNode } from './store.ts'
import { lookUp, mkdir, rm, setPerms, write } from './tree-operations.ts'

const OK = 'OK\0'

const path = ({ payload, domain }: Request): string => resolvePath(oneString(payload), domain)

/**
 * Parses permissions. Entries that name a missing domain are marked void now, so that they can't
 * apply to a later domain.
 * @throws Refusal EINVAL, or ENOENT for a missing owner, or ENOSPC over quota
 */
function permissionsOf(
  { domain, xenstored }: Request,
  entries: readonly string[],
): NodePermissions {
  if (entries.length > domain.limit('node-permissions')) throw new Refusal('ENOSPC')
  const perms = parseXsPermissions(
    entries.map((entry) => `${entry.slice(0, 1)}${strtol(entry.slice(1)) ?? ''}`),
  )
  if (!perms) throw new Refusal('EINVAL')
  const hasAny = (domain.features & XENSTORE_SERVER_FEATURE.DOMID_ANY) !== 0
  const named = new Set(
    [perms.owner, ...perms.acl.map(({ domid }) => domid)].filter((domid) =>
      domid === DOMID_ANY ? hasAny : xenstored.domains.know(domid),
    ),
  )
  if (!named.has(perms.owner)) throw new Refusal('ENOENT')
  return marked(perms, (domid) => named.has(domid))
}

/**
 * Sets permissions of a special path, which isn't a node: transactions and watches aren't involved.
 */
function setSpecialPermissions(
  { domain, xenstored: { special } }: Request,
  path: string,
  perms: NodePermissions,
): void {
  const former = special.get(path)
  if (!former) throw new Refusal('EINVAL')
  if (!owns(former, domain)) throw new Refusal('EACCES')
  special.set(path, perms)
}

/**
 * Returns as much of the list of children, from byte `offset` on, as fits into a message after
 * `generation`. An empty name marks the end of the whole list.
 */
function childListPart({ children }: StoreNode, offset: number, generation: string): string {
  // Leave room for the empty name that may end the list.
  const room = XENSTORE_PAYLOAD_MAX - generation.length - 1
  const rest = children.slice(offset)
  if (rest.length <= room) return `${generation}${rest}\0`
  return `${generation}${rest.slice(0, rest.lastIndexOf('\0', room - 1) + 1)}`
}

/**
 * Wraps a handler that writes nodes. Outside a transaction the domain is charged for each node
 * written, as in C xenstored.
 */
const writing = (run: Handler['run']): Handler => ({
  run(r) {
    const { domains, writeRate } = r.xenstored
    const before = domains.generation
    try {
      run(r)
    } finally {
      if (!r.transaction) writeRate.charge(r.domain, domains.generation - before)
    }
  },
})

export const nodeRequests: Handlers = [
  [XS.READ, { run: (r) => r.reply(lookUp(r, path(r), 'read').value) }],
  [XS.DIRECTORY, { run: (r) => r.reply(lookUp(r, path(r), 'read').children) }],
  [
    XS.DIRECTORY_PART,
    {
      run: (r) => {
        const [parent, offset, ...more] = strings(r.payload)
        if (parent === undefined || offset === undefined || more.length > 0) {
          throw new Refusal('EINVAL')
        }
        const node = lookUp(r, resolvePath(parent, r.domain), 'read')
        r.reply(childListPart(node, atoi(offset) >>> 0, `${node.generation}\0`))
      },
    },
  ],
  [
    XS.WRITE,
    writing((r) => {
      const nul = r.payload.indexOf(0)
      if (nul < 0) throw new Refusal('EINVAL')
      write(r, resolvePath(latin1(r.payload.subarray(0, nul)), r.domain), r.payload.slice(nul + 1))
      r.reply(OK)
    }),
  ],
  [
    XS.MKDIR,
    writing((r) => {
      mkdir(r, path(r))
      r.reply(OK)
    }),
  ],
  [
    XS.RM,
    writing((r) => {
      rm(r, path(r))
      r.reply(OK)
    }),
  ],
  [XS.GET_PERMS, { run: (r) => r.reply(formatXsPermissions(lookUp(r, path(r), 'read').perms)) }],
  [
    XS.SET_PERMS,
    writing((r) => {
      const [node = '', ...entries] = strings(r.payload)
      const perms = permissionsOf(r, entries)
      if (isSpecial(node)) setSpecialPermissions(r, node, perms)
      else setPerms(r, resolvePath(node, r.domain), perms)
      r.reply(OK)
    }),
  ],
]
