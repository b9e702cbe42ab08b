/**
 * Linux's own block backend, xen-blkback. While loaded, it serves every disk of its domain before
 * xenkit can.
 */
import { access } from 'node:fs/promises'

/** Directory that sysfs has while it is loaded. */
const DRIVER = '/sys/bus/xen-backend/drivers/vbd'

/** Advice for a domain in which xen-blkback is loaded. */
export const UNLOAD_KERNEL_BACKEND = 'unload it with modprobe -r xen-blkback'

/** Whether xen-blkback is loaded. */
export const hasKernelBackend = (driver: string = DRIVER): Promise<boolean> =>
  access(driver).then(
    () => true,
    () => false,
  )
