/**
 * Reads what a toolstack requests for a disk: libxl from an xl config line (device_disk_add in
 * libxl_disk.c), or `plugVbd`.
 */
import type { DeviceAddress } from '@xenkit/xenbus'
import { backendPath } from '@xenkit/xenbus'
import type { XenstoreReader } from '@xenkit/xenstore-client'
import { toolstackNodes } from './nodes.ts'

/**
 * Backend types, which are directories of the backend domain. libxl chooses one by `backendtype` of
 * the disk's config line:
 * - `vbd`: `phy`, usually served by Linux's blkback
 * - `vbd3`: `tap` of libxl 4.19 and newer, usually served by tapback
 * - `qdisk`: `qdisk`, usually served by QEMU
 */
export const VBD_BACKEND_TYPES = ['vbd', 'vbd3', 'qdisk'] as const
/** A backend type of disks: one of `VBD_BACKEND_TYPES`. */
export type VbdBackendType = (typeof VBD_BACKEND_TYPES)[number]

/** A disk that a toolstack asks to be served. */
export interface RequestedDisk {
  readonly frontendDomid: number
  readonly devid: number
  readonly backendType: VbdBackendType
  /**
   * Names what to serve: `params` in the backend's directory. Empty if the toolstack wrote none, or
   * for a drive without a medium.
   */
  readonly params: string
  /**
   * `params` without the format that libxl prefixes for `vbd3` and `qdisk`: `/disk.img` for
   * `aio:/disk.img`.
   */
  readonly target: string
  /**
   * Format of the target as xl-disk-configuration(5) names it: `vhd`, `qcow2` ..., or `raw`, which
   * libxl writes as `aio`.
   */
  readonly format: string
  /**
   * Whether the toolstack named the format. For `vbd3` and `qdisk` libxl always does: `raw` if the
   * config line has none. For a `vbd`, `params` is the config line's target, which may start with
   * `raw:`.
   */
  readonly formatSaid: boolean
  /** The guest gets the disk read-only. True for every CD-ROM drive. */
  readonly readOnly: boolean
  /** A CD-ROM drive, whose medium may be absent and may change. */
  readonly cdrom: boolean
  readonly removable: boolean
  /** Discard may be offered to the guest. */
  readonly discard: boolean
}

/**
 * Reads the toolstack's nodes of a disk.
 *
 * @throws NegotiationError naming the node that is missing or invalid
 */
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

/**
 * Splits `params` into format and target. Those of a `vbd` are for a script, so only `raw:` counts
 * as a format there.
 */
function parseParams(params: string, backendType: VbdBackendType): Params {
  const colon = backendType === 'vbd' && !params.startsWith('raw:') ? -1 : params.indexOf(':')
  if (colon < 0) return { target: params, format: 'raw', formatSaid: false }
  const format = params.slice(0, colon)
  const target = params.slice(colon + 1)
  return { target, format: format === 'aio' ? 'raw' : format, formatSaid: true }
}

type Params = Pick<RequestedDisk, 'target' | 'format' | 'formatSaid'>
