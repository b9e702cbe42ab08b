/**
 * A disk as a toolstack asks for it: what libxl makes of an xl config line (device_disk_add in
 * libxl_disk.c), and `plugVbd`.
 */
import type { DeviceAddress } from '@xenkit/xenbus'
import { backendPath } from '@xenkit/xenbus'
import type { XenstoreReader } from '@xenkit/xenstore-client'
import { toolstackNodes } from './nodes.ts'

/**
 * Where libxl puts a disk, by its `backendtype`, and who usually serves it there:
 * - `vbd`: `phy`; Linux's blkback
 * - `vbd3`: `tap` of libxl 4.19 and newer; tapback
 * - `qdisk`: `qdisk`; QEMU
 */
export const VBD_BACKEND_TYPES = ['vbd', 'vbd3', 'qdisk'] as const
/** Name of a directory in which libxl puts disks, one of `VBD_BACKEND_TYPES`. */
export type VbdBackendType = (typeof VBD_BACKEND_TYPES)[number]

/** A disk that a toolstack asks to be served. */
export interface RequestedDisk {
  readonly frontendDomid: number
  readonly devid: number
  readonly backendType: VbdBackendType
  /**
   * The toolstack's words for what to serve: `params` of the backend's directory. Empty if it has
   * none, or no medium.
   */
  readonly params: string
  /**
   * `params` without the format that libxl puts before it for `vbd3` and `qdisk`: for
   * `aio:/disk.img`, `/disk.img`.
   */
  readonly target: string
  /**
   * That format, in the words of xl-disk-configuration(5): `raw`, which libxl writes as `aio`,
   * `vhd`, `qcow2` ...
   */
  readonly format: string
  /**
   * The toolstack has named the format. For `vbd3` and `qdisk` libxl does, as `raw` too where the
   * line says nothing. The params of a `vbd` are the line's target, which may begin with `raw:`.
   */
  readonly formatSaid: boolean
  /** The guest is to have it read-only, as every CD-ROM. */
  readonly readOnly: boolean
  /** A CD-ROM drive: its medium may be absent, and change. */
  readonly cdrom: boolean
  readonly removable: boolean
  /** The guest may be offered discard. */
  readonly discard: boolean
}

/** @throws NegotiationError naming the node that holds what it must not */
export async function readRequestedDisk(
  view: XenstoreReader,
  device: DeviceAddress,
): Promise<RequestedDisk> {
  const { frontendDomid, devid } = device
  const backendType = VBD_BACKEND_TYPES.find((type) => type === device.backendType) ?? 'vbd'
  const {
    params,
    mode,
    removable,
    'device-type': deviceType,
    'discard-enable': discard,
  } = await toolstackNodes.read(view, backendPath(device))
  const cdrom = deviceType === 'cdrom'
  return {
    frontendDomid,
    devid,
    backendType,
    params,
    ...parseParams(params, backendType),
    readOnly: cdrom || !mode.includes('w'),
    cdrom,
    removable,
    discard,
  }
}

/** A `vbd`'s params are a script's business: \`raw:\` alone is a format before them. */
function parseParams(params: string, backendType: VbdBackendType): Params {
  const colon = backendType === 'vbd' && !params.startsWith('raw:') ? -1 : params.indexOf(':')
  if (colon < 0) return { target: params, format: 'raw', formatSaid: false }
  const format = params.slice(0, colon)
  const target = params.slice(colon + 1)
  return { target, format: format === 'aio' ? 'raw' : format, formatSaid: true }
}

type Params = Pick<RequestedDisk, 'target' | 'format' | 'formatSaid'>
