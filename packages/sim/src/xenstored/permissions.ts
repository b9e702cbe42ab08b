/** Checks of nodes' permissions. */
import { DOMID_ANY, type XsAccess, type XsAclEntry, type XsPermissions } from '@xenkit/wire'

/** Right that a request needs. */
export type Need = 'read' | 'write'

/** The domain whose access is checked. */
export interface Subject {
  readonly domid: number
  /** Domid whose rights the domain has in addition to its own. */
  readonly target: number | undefined
}

interface AclEntry extends XsAclEntry {
  /** Set if the entry named a domain that is gone. */
  readonly isVoid?: true
}

/** Permissions of a node; entries about domains that are gone are void. */
export interface NodePermissions extends XsPermissions {
  readonly acl: readonly AclEntry[]
}

/** Whether the domain is domain 0, to which permissions and quotas don't apply. */
export const isPrivileged = (domid: number): boolean => domid === 0

const grants = (access: XsAccess, need: Need): boolean => access === 'both' || access === need

const concerns = (domid: number, subject: Subject): boolean =>
  domid === subject.domid || domid === subject.target || domid === DOMID_ANY

/** Whether the domain has every right, including that of changing the permissions. */
export const owns = (perms: NodePermissions, subject: Subject): boolean =>
  isPrivileged(subject.domid) || concerns(perms.owner, subject)

/** Whether the permissions give a domain the right. */
export function allows(perms: NodePermissions, subject: Subject, need: Need): boolean {
  if (owns(perms, subject)) return true
  const entry = perms.acl.find(({ domid, isVoid }) => !isVoid && concerns(domid, subject))
  return grants(entry ? entry.access : perms.access, need)
}

/** Returns the permissions, with entries marked void whose domain doesn't exist any more. */
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
