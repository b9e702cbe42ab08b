/** Who may do what with a node. */
import { DOMID_ANY, type XsAccess, type XsAclEntry, type XsPermissions } from '@xenkit/wire'

export type Need = 'read' | 'write'

/** The domain that may, or may not. */
export interface Subject {
  readonly domid: number
  /** A domain whose rights it has besides its own. */
  readonly target: number | undefined
}

interface AclEntry extends XsAclEntry {
  /** It was about a domain that is gone. */
  readonly isVoid?: true
}

export interface NodePermissions extends XsPermissions {
  readonly acl: readonly AclEntry[]
}

/** Domain 0 is the control domain: permissions and quotas don't apply to it. */
export const isPrivileged = (domid: number): boolean => domid === 0

const grants = (access: XsAccess, need: Need): boolean => access === 'both' || access === need

const concerns = (domid: number, subject: Subject): boolean =>
  domid === subject.domid || domid === subject.target || domid === DOMID_ANY

/** Whether it has every right, that of changing the permissions included. */
export const owns = (perms: NodePermissions, subject: Subject): boolean =>
  isPrivileged(subject.domid) || concerns(perms.owner, subject)

export function allows(perms: NodePermissions, subject: Subject, need: Need): boolean {
  if (owns(perms, subject)) return true
  const entry = perms.acl.find(({ domid, isVoid }) => !isVoid && concerns(domid, subject))
  return grants(entry ? entry.access : perms.access, need)
}

/** The permissions, with entries about domains that aren't meant marked as void. */
export function marked(
  perms: NodePermissions,
  isMeant: (domid: number) => boolean,
): NodePermissions {
  if (perms.acl.every(({ domid, isVoid }) => isVoid === true || isMeant(domid))) return perms
  return {
    ...perms,
    acl: perms.acl.map((entry) => (isMeant(entry.domid) ? entry : { ...entry, isVoid: true })),
  }
}
