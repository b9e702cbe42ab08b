/** Lists a backend domain's disks from xenstore, whichever program serves them. */
import { DOMID_MAX, UINT32_MAX } from '@xenkit/hypervisor'
import { type XenbusState, xenbusStateName } from '@xenkit/wire'
import {
  backendDeviceNodes,
  backendRoot,
  backendPath,
  errorPath,
  frontendDeviceNodes,
  frontendPath,
  lenient,
  ofOtherEnd,
} from '@xenkit/xenbus'
import { type XenstoreReader, parseDecimal } from '@xenkit/xenstore-client'
import { diskNodes } from './nodes.ts'
import {
  type RequestedDisk,
  VBD_BACKEND_TYPES,
  type VbdBackendType,
  readRequestedDisk,
} from './requested-disk.ts'

/** A disk in xenstore, with the state of both sides. */
export interface ListedDisk extends RequestedDisk {
  /**
   * State of each side by name, such as `Connected`. Undefined if that side is absent or
   * unreadable.
   */
  readonly backendState: string | undefined
  readonly frontendState: string | undefined
  /**
   * Size in units of 512 bytes, 0 for a drive without a medium. Undefined before the disk is
   * offered.
   */
  readonly sectors: number | undefined
  /** Id of the xenkit server that serves the disk, if one does. */
  readonly claim: string | undefined
  /** Whether the hotplug script has prepared what is served: `connected` or `error`. */
  readonly hotplugStatus: string | undefined
  /** The last failure's reason, if there was a failure. */
  readonly error: string | undefined
}

/**
 * Lists the disks of one backend domain, of all backend types, ordered by the guests' domids and
 * then by devid.
 *
 * @param backendDomid the domain that serves the disks, 0..32751
 * @throws XenstoreError, XenstoreClosedError if xenstored refuses or is lost
 */
export async function listVbds(view: XenstoreReader, backendDomid: number): Promise<ListedDisk[]> {
  const disks = await Promise.all(
    VBD_BACKEND_TYPES.map((backendType) => listType(view, { backendDomid, backendType })),
  )
  return disks.flat().toSorted((a, b) => a.frontendDomid - b.frontendDomid || a.devid - b.devid)
}

async function listType(
  view: XenstoreReader,
  where: { readonly backendDomid: number; readonly backendType: VbdBackendType },
): Promise<ListedDisk[]> {
  const root = backendRoot(where.backendDomid, where.backendType)
  const disks = await Promise.all(
    (await numbersIn(view, root, DOMID_MAX)).map(async (frontendDomid) => {
      const devids = await numbersIn(view, `${root}/${frontendDomid}`, UINT32_MAX)
      return Promise.all(
        devids.map((devid) => readListed(view, { ...where, type: 'vbd', frontendDomid, devid })),
      )
    }),
  )
  return disks.flat().filter((disk) => disk !== undefined)
}

async function readListed(
  view: XenstoreReader,
  device: {
    readonly type: 'vbd'
    readonly backendDomid: number
    readonly backendType: VbdBackendType
    readonly frontendDomid: number
    readonly devid: number
  },
): Promise<ListedDisk | undefined> {
  const back = backendPath(device)
  const own = <T>(read: Promise<T>): Promise<T | undefined> =>
    lenient<T | undefined>(read, undefined)
  const [
    requested,
    backendState,
    frontendState,
    sectors,
    claim,
    hotplugStatus,
    hotplugError,
    error,
  ] = await Promise.all([
    own(readRequestedDisk(view, device)),
    own(backendDeviceNodes.readNode(view, back, 'state')),
    own(ofOtherEnd(frontendDeviceNodes.readNode(view, frontendPath(device), 'state'))),
    own(diskNodes.readNode(view, back, 'sectors')),
    own(backendDeviceNodes.readNode(view, back, 'xenkit-claim')),
    own(backendDeviceNodes.readNode(view, back, 'hotplug-status')),
    own(backendDeviceNodes.readNode(view, back, 'hotplug-error')),
    view.readOptional(errorPath(device)),
  ])
  // No disk, or one that has just been removed: a node that every disk has is missing.
  return (
    requested && {
      ...requested,
      backendState: nameOf(backendState),
      frontendState: nameOf(frontendState),
      sectors,
      claim,
      hotplugStatus,
      error: error ?? hotplugError,
    }
  )
}

const nameOf = (state: XenbusState | undefined): string | undefined =>
  state === undefined ? undefined : xenbusStateName(state)

async function numbersIn(view: XenstoreReader, path: string, max: number): Promise<number[]> {
  const names = (await view.exists(path)) ? await view.list(path) : []
  return names.flatMap((name) => parseDecimal(name, { max }) ?? [])
}
