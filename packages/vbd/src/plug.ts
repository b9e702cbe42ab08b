/**
 * Plugs disks into domains without xl, as `xl block-attach` does. Nodes follow
 * docs/misc/xenstore-paths and blkif.h.
 */
import { type DeviceAddress, changeDevice, plugDevice, unplugDevice } from '@xenkit/xenbus'
import type { XenstoreClient } from '@xenkit/xenstore-client'
import { toolstackNodes } from './nodes.ts'
import type { VbdBackendType } from './requested-disk.ts'
import { parseVdev, vdevName } from './vdev.ts'

/** Names a disk by its two domains and its device name. */
export interface VbdAddress {
  readonly frontendDomid: number
  readonly backendDomid: number
  /** Default `vbd`. */
  readonly backendType?: VbdBackendType
  /** Device name such as `xvda`, or a decimal devid: see `parseVdev`. */
  readonly vdev: string
}

/** A disk to plug, for `plugVbd`. */
export interface PlugVbdOptions extends VbdAddress {
  readonly readOnly: boolean
  /** Whether it is a CD-ROM drive, whose medium may be absent and may change. Default false. */
  readonly cdrom?: boolean
  /** Names the store, for a backend that serves several. Default empty. */
  readonly params?: string
  /** Only the `serveVbd` with this reservation serves the disk. */
  readonly reservation?: string
}

/** libxl's names of the backend types (libxl__device_disk_string_of_backend). */
const LIBXL_TYPES = { vbd: 'phy', vbd3: 'vbd3', qdisk: 'qdisk' } as const satisfies Record<
  VbdBackendType,
  string
>

/**
 * Writes the nodes of a new disk. A backend of the backend domain then serves it.
 * @throws RangeError for a vdev that doesn't exist
 * @throws ToolstackError if the domain doesn't exist or already has such a disk
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
      // Only libxl reads these, for `xl block-detach`.
      type: LIBXL_TYPES[address.backendType],
      specification: 'xen',
      script: '/bin/true',
    },
  })
}

/**
 * Unplugs a disk: see `unplugDevice`.
 * @param o.signal ends the wait for the backend: the nodes are then removed at once
 * @throws RangeError for a vdev that doesn't exist
 */
export async function unplugVbd(
  xs: XenstoreClient,
  address: VbdAddress,
  o: { readonly signal?: AbortSignal } = {},
): Promise<void> {
  await unplugDevice(xs, deviceAddress(address), o)
}

/**
 * Changes the medium of a CD-ROM drive that a xenkit server serves.
 * @param o.params names the new medium; empty to leave the drive without one
 * @throws RangeError for a vdev that doesn't exist
 * @throws ToolstackError with the server's reason if it refuses
 */
export async function changeVbdMedium(
  xs: XenstoreClient,
  address: VbdAddress,
  o: { readonly params: string; readonly signal?: AbortSignal },
): Promise<void> {
  await changeDevice(xs, deviceAddress(address), toolstackNodes.format({ params: o.params }), o)
}

/**
 * Changes the size of a disk that a xenkit server serves.
 * @param o.sectors new size, in units of 512 bytes, 1 or more
 * @throws RangeError for a vdev that doesn't exist
 * @throws ToolstackError with the server's reason if it refuses
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
