/**
 * The permissions of a xenstore node. They travel as a list of NUL-terminated entries, each a
 * letter and a domid (`n5` none, `r5` read, `w5` write, `b5` both): the first one names the owner
 * and, with its letter, the access of every domain without an entry of its own.
 */

export type XsAccess = 'none' | 'read' | 'write' | 'both'

export interface XsAclEntry {
  readonly domid: number
  readonly access: XsAccess
}

export interface XsPermissions {
  /** Has full access, as domain 0 has. */
  readonly owner: number
  /** What any other domain may do. */
  readonly access: XsAccess
  /** Domains that may do more, or less, than the others. */
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

/** The entries as they travel, each with its NUL. */
export const formatXsPermissions = ({ owner, access, acl }: XsPermissions): string =>
  [{ domid: owner, access }, ...acl]
    .map((entry) => `${letters[entry.access]}${entry.domid}\0`)
    .join('')

/**
 * @param entries without their NUL; a domid may be any C int, as xenstored doesn't check what it is
 *   given
 * @returns undefined if that isn't a list of permissions
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
