/** Who may do what with a node. */
import { DOMID_ANY, type XsAccess, type XsPermissions } from '@xenkit/wire'

export type Need = 'read' | 'write'

/** The domain that may, or may not. */
export interface Subject {
  readonly domid: number
  /** A domain whose rights it has besides its own. */
  readonly target: number | undefined
}

/** Domain 0 is the control domain: permissions and quotas don't apply to it. */
export const isPrivileged = (domid: number): boolean => domid === 0

const grants = (access: XsAccess, need: Need): boolean => access === 'both' || access === need

const concerns = (domid: number, subject: Subject): boolean => domid === subject.domid || domid === subject.target || domid === DOMID_ANY

/** Whether it has every right, that of changing the permissions included. */
export const owns = (perms: XsPermissions, subject: Subject): boolean => isPrivileged(subject.domid) || concerns(perms.owner, subject)

export function allows(perms: XsPermissions, subject: Subject, need: Need): boolean {
  if (owns(perms, subject)) return true
  const entry = perms.acl.find(({ domid }) => concerns(domid, subject))
  return grants(entry ? entry.access : perms.access, need)
}
