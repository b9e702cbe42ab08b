/**
 * Permissions of a xenstore node. They are sent as NUL-terminated entries, each a letter and a
 * domid (`n5` none, `r5` read, `w5` write, `b5` both). The first entry's domid is the owner; its
 * letter is the access of every domain without an entry of its own.
 */

/** Rights that a permission gives. */
export type XsAccess = 'none' | 'read' | 'write' | 'both'

/** Rights of one domain. */
export interface XsAclEntry {
  readonly domid: number
  readonly access: XsAccess
}

/** Permissions of one node. */
export interface XsPermissions {
  /** Domain with full access. Domain 0 has full access too. */
  readonly owner: number
  /** Access of any other domain. */
  readonly access: XsAccess
  /** Domains whose access differs from `access`. */
  readonly acl: readonly XsAclEntry[]
}

const letters = { none: 'n', read: 'r', write: 'w', both: 'b' } as const satisfies Record<
  XsAccess,
  string
>
const accesses = new Map<string, XsAccess>([
  ['n', 'none'],
  ['r', 'read'],
  ['w', 'write'],
  ['b', 'both'],
])

/** Returns the entries as they are sent, each followed by a NUL. */
export const formatXsPermissions = ({ owner, access, acl }: XsPermissions): string =>
  [{ domid: owner, access }, ...acl]
    .map((entry) => `${letters[entry.access]}${entry.domid}\0`)
    .join('')

/**
 * Parses the entries of a reply.
 * @param entries entries without their NUL; a domid may be any C int, because xenstored doesn't
 * check it
 * @returns undefined if the entries aren't a list of permissions
 */
export function parseXsPermissions(entries: readonly string[]): XsPermissions | undefined {
  const acl: XsAclEntry[] = []
  for (const entry of entries) {
    const access = accesses.get(entry.slice(0, 1))
    const digits = entry.slice(1)
    if (!access || !/^(\d{1,10}|-\d{1,10})$/.test(digits)) return undefined
    acl.push({ domid: Number(digits), access })
  }
  const first = acl.shift()
  return first && { owner: first.domid, access: first.access, acl }
}
