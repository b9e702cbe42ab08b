/** Errors of disks that can't serve what they were asked to. */
import { XenError } from '@xenkit/hypervisor'
import type { RequestedDisk } from '../requested-disk.ts'

/** The store serves another disk already, and at least one of the two can write to it. */
export class StoreInUseError extends XenError {
  constructor(message: string, details: { readonly user: RequestedDisk }) {
    super('ERR_XEN_STORE_IN_USE', message, details)
  }
}

/** A disk can't take the medium or the size that a toolstack asked for. It stays as it is. */
export class ChangeRefusedError extends XenError {
  constructor(message: string, details: { readonly disk: RequestedDisk }) {
    super('ERR_XEN_CHANGE_REFUSED', message, details)
  }
}
