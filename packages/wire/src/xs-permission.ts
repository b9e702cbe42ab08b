/**
 * The permissions of a xenstore node: a list whose first entry names the owner, and the access of every
 * domain that has no entry of its own. The owner and domain 0 have full access whatever the list says.
 * They travel as a letter and a domid: `n5` none, `r5` read, `w5` write, `b5` both.
 */

export type XsAccess = 'none' | 'read' | 'write' | 'both'

export interface XsPermission {
  readonly domid: number
  readonly access: XsAccess
}

const letters = { none: 'n', read: 'r', write: 'w', both: 'b' } as const satisfies Record<XsAccess, string>
const accesses = new Map<string, XsAccess>([['n', 'none'], ['r', 'read'], ['w', 'write'], ['b', 'both']])

export const formatXsPermission = ({ domid, access }: XsPermission): string => `${letters[access]}${domid}`

/** `undefined` for what isn't a permission. */
export function parseXsPermission(text: string): XsPermission | undefined {
  const access = accesses.get(text.slice(0, 1))
  const digits = text.slice(1)
  return access && /^\d{1,5}$/.test(digits) ? { domid: Number(digits), access } : undefined
}
