/** Linux's devices that xenkit uses, and what to do if one can't be opened. */
import { NotAvailableError } from '@xenkit/hypervisor'
import { codeOf } from './native-error.ts'

/** A device file of Linux. */
export interface XenDevice {
  readonly path: string
  /** The kernel module that provides the device, unless the device is built in. */
  readonly module?: string
  /** Purpose of the device, for error texts and `xenkit doctor`. */
  readonly purpose: string
}

/** Devices that xenkit opens. */
export const DEVICES = {
  gntdev: {
    path: '/dev/xen/gntdev',
    module: 'xen-gntdev',
    purpose: "mapping and copying other domains' pages",
  },
  evtchn: { path: '/dev/xen/evtchn', module: 'xen-evtchn', purpose: 'event channels' },
  gntalloc: {
    path: '/dev/xen/gntalloc',
    module: 'xen-gntalloc',
    purpose: 'granting own pages: frontends and vchan servers',
  },
  xenbus: {
    path: '/dev/xen/xenbus',
    purpose: 'xenstore where xenstored has no socket: driver domains and guests',
  },
  tun: { path: '/dev/net/tun', module: 'tun', purpose: 'network cards on a bridge' },
} as const satisfies Record<string, XenDevice>

/** Advice for a machine without Xen. */
export const USE_SIM = 'without Xen, use the simulated hypervisor: xenkit sim PROGRAM'

/** Returns what to do when opening `device` failed with the errno name `code`. */
export function fixFor(device: XenDevice, code: string): string {
  switch (code) {
    case 'ENOENT':
    case 'ENODEV':
    case 'ENXIO':
      return device.module === undefined
        ? 'every domain of Xen has it, once devtmpfs is mounted on /dev'
        : `in a domain of Xen, run: modprobe ${device.module}`
    case 'EACCES':
    case 'EPERM':
      return 'run this as root, or give its user read and write permission'
    case 'EMFILE':
    case 'ENFILE':
      return 'raise the limit of open files'
    default:
      return 'look at the kernel log'
  }
}

/**
 * Opens a device.
 * @throws NotAvailableError that names the device and says what to do
 */
export function openDevice<T>(device: XenDevice, open: (path: string) => T): T {
  try {
    return open(device.path)
  } catch (error) {
    const code = codeOf(error)
    if (code === undefined || code.startsWith('ERR_')) throw error
    const details = { path: device.path, errno: code }
    throw new NotAvailableError(
      `cannot open "${device.path}" (${code}): ${fixFor(device, code)}; ${USE_SIM}`,
      details,
      { cause: error },
    )
  }
}
