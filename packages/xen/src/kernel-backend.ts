/** Linux's own block backend, xen-blkback. It answers every disk of its domain at once. */
import { access } from 'node:fs/promises'

/** What sysfs has while it is loaded. */
const DRIVER = '/sys/bus/xen-backend/drivers/vbd'

export const UNLOAD_KERNEL_BACKEND = 'unload it with modprobe -r xen-blkback'

export const hasKernelBackend = (driver: string = DRIVER): Promise<boolean> =>
  access(driver).then(
    () => true,
    () => false,
  )
