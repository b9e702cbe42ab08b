/**
 * Detects xen-blkback, Linux's own block backend. While loaded, it serves every disk of its domain
 * before xenkit can.
 */
import { access } from 'node:fs/promises'

/** Directory of sysfs that exists while xen-blkback is loaded. */
const DRIVER = '/sys/bus/xen-backend/drivers/vbd'

/** Advice for a domain in which xen-blkback is loaded. */
export const UNLOAD_KERNEL_BACKEND = 'unload it with modprobe -r xen-blkback'

/** Whether xen-blkback is loaded. */
export const hasKernelBackend = (driver: string = DRIVER): Promise<boolean> =>
  access(driver).then(
    () => true,
    () => false,
  )
