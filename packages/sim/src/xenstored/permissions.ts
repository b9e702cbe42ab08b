/** Who may do what with a node. */
import type { XsAccess, XsPermissions } from '@xenkit/wire'

export type Need = 'read' | 'write'

/** Domain 0 is the control domain: permissions and quotas don't apply to it. */
export const isPrivileged = (domid: number): boolean => domid === 0

const grants = (access: XsAccess, need: Need): boolean => access === 'both' || access === need

export function allows(perms: XsPermissions, domid: number, need: Need): boolean {
  if (isPrivileged(domid) || domid === perms.owner) return true
  const entry = perms.acl.find((candidate) => candidate.domid === domid)
  return grants(entry ? entry.access : perms.access, need)
}
