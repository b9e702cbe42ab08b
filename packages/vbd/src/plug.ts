/** Plugging a disk into a domain by hand, as `xl block-attach` does; the nodes of docs/misc/xenstore-paths and blkif.h. */
import { type DeviceAddress, plugDevice, unplugDevice } from '@xenkit/xenbus'
import type { XenstoreClient } from '@xenkit/xenstore-client'
import type { VbdBackendType } from './requested-disk.ts'
import { parseVdev } from './vdev.ts'

export interface VbdAddress {
  readonly frontendDomid: number
  readonly backendDomid: number
  /** Default `vbd`. */
  readonly backendType?: VbdBackendType
  /** `xvda`, or a devid. */
  readonly vdev: string
}

export interface PlugVbdOptions extends VbdAddress {
  readonly readOnly: boolean
  /** What to serve, for a backend that serves more than one thing. Default empty. */
  readonly params?: string
  /** Leaves the disk to the `serveVbd` with this reservation, whoever else serves disks. */
  readonly reservation?: string
}

/**
 * Makes the nodes of a disk. A backend that serves the backend's domain takes it from there.
 * @throws RangeError for a vdev that doesn't exist
 * @throws ToolstackError when the domain doesn't exist or has such a disk already
 */
export async function plugVbd(xs: XenstoreClient, o: PlugVbdOptions): Promise<void> {
  const address = deviceAddress(o)
  await plugDevice(xs, {
    ...address,
    ...(o.reservation === undefined ? {} : { reservation: o.reservation }),
    frontend: { 'virtual-device': String(address.devid), 'device-type': 'disk' },
    backend: { params: o.params ?? '', mode: o.readOnly ? 'r' : 'w', dev: o.vdev, removable: '0', bootable: '1', 'device-type': 'disk' },
  })
}

/** Takes a disk away again: see `unplugDevice`. */
export async function unplugVbd(xs: XenstoreClient, address: VbdAddress, o: { readonly signal?: AbortSignal } = {}): Promise<void> {
  await unplugDevice(xs, deviceAddress(address), o)
}

const deviceAddress = ({ frontendDomid, backendDomid, backendType = 'vbd', vdev }: VbdAddress): DeviceAddress => ({ type: 'vbd', backendType, frontendDomid, backendDomid, devid: parseVdev(vdev) })
