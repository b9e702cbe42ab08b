/**
 * Plugging a disk into a domain by hand, as `xl block-attach` does; the nodes of
 * docs/misc/xenstore-paths and blkif.h.
 */
import { type DeviceAddress, changeDevice, plugDevice, unplugDevice } from '@xenkit/xenbus'
import type { XenstoreClient } from '@xenkit/xenstore-client'
import { toolstackNodes } from './nodes.ts'
import type { VbdBackendType } from './requested-disk.ts'
import { parseVdev, vdevName } from './vdev.ts'

/** Which disk a toolstack's call is about. */
export interface VbdAddress {
  readonly frontendDomid: number
  readonly backendDomid: number
  /** Default `vbd`. */
  readonly backendType?: VbdBackendType
  /** `xvda`, or a devid. */
  readonly vdev: string
}

/** A disk to plug. */
export interface PlugVbdOptions extends VbdAddress {
  readonly readOnly: boolean
  /** A CD-ROM drive: its medium may be absent, and change. Default false. */
  readonly cdrom?: boolean
  /** What to serve, for a backend that serves more than one thing. Default empty. */
  readonly params?: string
  /** Leaves the disk to the `serveVbd` with this reservation, whoever else serves disks. */
  readonly reservation?: string
}

/** libxl's words for the backend types (libxl__device_disk_string_of_backend). */
const LIBXL_TYPES = { vbd: 'phy', vbd3: 'vbd3', qdisk: 'qdisk' } as const satisfies Record<
  VbdBackendType,
  string
>

/**
 * Makes the nodes of a disk. A backend that serves the backend's domain takes it from there.
 * @throws RangeError for a vdev that doesn't exist
 * @throws ToolstackError when the domain doesn't exist or has such a disk already
 */
export async function plugVbd(xs: XenstoreClient, o: PlugVbdOptions): Promise<void> {
  const address = deviceAddress(o)
  const { cdrom = false } = o
  const deviceType = cdrom ? 'cdrom' : 'disk'
  await plugDevice(xs, {
    ...address,
    ...(o.reservation === undefined ? {} : { reservation: o.reservation }),
    frontend: { 'virtual-device': String(address.devid), 'device-type': deviceType, trusted: '1' },
    backend: {
      ...toolstackNodes.format({
        params: o.params ?? '',
        mode: o.readOnly ? 'r' : 'w',
        removable: cdrom,
        'device-type': deviceType,
      }),
      dev: vdevName(address.devid),
      bootable: '1',
      // For libxl's own use, which takes the disk away if xl is told to.
      type: LIBXL_TYPES[address.backendType],
      specification: 'xen',
      script: '/bin/true',
    },
  })
}

/** Takes a disk away again: see `unplugDevice`. */
export async function unplugVbd(
  xs: XenstoreClient,
  address: VbdAddress,
  o: { readonly signal?: AbortSignal } = {},
): Promise<void> {
  await unplugDevice(xs, deviceAddress(address), o)
}

/**
 * Puts another medium into a CD-ROM drive that a server of xenkit's has.
 * @param o.params names it; empty, the drive is left without one
 * @throws ToolstackError with the server's reason
 */
export async function changeVbdMedium(
  xs: XenstoreClient,
  address: VbdAddress,
  o: { readonly params: string; readonly signal?: AbortSignal },
): Promise<void> {
  await changeDevice(xs, deviceAddress(address), toolstackNodes.format({ params: o.params }), o)
}

/**
 * Gives a disk that a server of xenkit's has another size. @throws ToolstackError with the server's
 * reason
 */
export async function resizeVbd(
  xs: XenstoreClient,
  address: VbdAddress,
  o: { readonly sectors: number; readonly signal?: AbortSignal },
): Promise<void> {
  await changeDevice(
    xs,
    deviceAddress(address),
    toolstackNodes.format({ 'xenkit-sectors': o.sectors }),
    o,
  )
}

const deviceAddress = ({ frontendDomid, backendDomid, backendType = 'vbd', vdev }: VbdAddress) =>
  ({
    type: 'vbd',
    backendType,
    frontendDomid,
    backendDomid,
    devid: parseVdev(vdev),
  }) satisfies DeviceAddress
