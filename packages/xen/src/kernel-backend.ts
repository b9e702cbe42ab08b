/**
 * Detects Linux's own backends. While one is loaded, it serves every device of its type in its
 * domain before xenkit can.
 */
import { access } from 'node:fs/promises'

/** A type of device that Linux has a backend for. */
export type KernelBackendType = 'vbd' | 'vif'

/** Modules of Linux's backends. */
export const KERNEL_BACKENDS = {
  vbd: { module: 'xen-blkback', devices: 'disk' },
  vif: { module: 'xen-netback', devices: 'network card' },
} as const satisfies Record<KernelBackendType, object>

/** Directory of sysfs, with a directory for each backend that is loaded. */
const DRIVERS = '/sys/bus/xen-backend/drivers'

/**
 * Says which of Linux's backends serves the devices of a type before xenkit can, and what to do.
 * @returns undefined if none is loaded
 */
export async function kernelBackend(
  type: KernelBackendType,
  drivers: string = DRIVERS,
): Promise<{ readonly found: string; readonly fix: string } | undefined> {
  const { module, devices } = KERNEL_BACKENDS[type]
  const loaded = await access(`${drivers}/${type}`).then(
    () => true,
    () => false,
  )
  if (!loaded) return undefined
  return {
    found: `the kernel's own backend ${module} serves every ${devices} before xenkit can`,
    fix: `unload it with modprobe -r ${module}`,
  }
}
