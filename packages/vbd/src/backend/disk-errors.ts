/** Why a disk can't have what it is to serve. */
import { XenError } from '@xenkit/hypervisor'
import type { RequestedDisk } from '../requested-disk.ts'

/** A store is already served, writable, to another disk. */
export class StoreInUseError extends XenError {
  constructor(message: string, details: { readonly user: RequestedDisk }) {
    super('ERR_XEN_STORE_IN_USE', message, details)
  }
}

/** A disk can't have the medium or the size that a toolstack asks for, and stays as it is. */
export class ChangeRefusedError extends XenError {
  constructor(message: string, details: { readonly disk: RequestedDisk }) {
    super('ERR_XEN_CHANGE_REFUSED', message, details)
  }
}
