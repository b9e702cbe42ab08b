/** Lists a backend domain's devices of one type from xenstore, whichever program serves them. */
import { DOMID_MAX, UINT32_MAX } from '@xenkit/hypervisor'
import { type XenbusState, xenbusStateName } from '@xenkit/wire'
import { type XenstoreReader, parseDecimal } from '@xenkit/xenstore-client'
import {
  type DeviceAddress,
  backendPath,
  backendRoot,
  errorPath,
  frontendPath,
} from './device-path.ts'
import { lenient, ofOtherEnd } from './node-access.ts'
import { backendDeviceNodes, frontendDeviceNodes } from './nodes.ts'

/** A device in xenstore, with the state of both sides. */
export interface ListedDevice {
  /**
   * State of each side by name, such as `Connected`. Undefined if that side is absent or
   * unreadable.
   */
  readonly backendState: string | undefined
  readonly frontendState: string | undefined
  /** Id of the xenkit server that serves the device, if one does. */
  readonly claim: string | undefined
  /** Whether the hotplug script has prepared what is served: `connected` or `error`. */
  readonly hotplugStatus: string | undefined
  /** The last failure's reason, if there was a failure. */
  readonly error: string | undefined
}

/** Where `listDevices` looks. */
export interface ListDevicesOptions<T> {
  /** The domain that serves the devices, 0..32751. */
  readonly backendDomid: number
  readonly type: string
  /** Default: `type`. */
  readonly backendTypes?: readonly string[]
  /**
   * Reads what is particular to the type. A device for which this throws a NegotiationError isn't
   * listed: it was just removed, or is none.
   */
  readonly read: (device: DeviceAddress) => Promise<T>
}

/**
 * Lists devices, ordered by the guests' domids and then by devid.
 * @throws XenstoreError, XenstoreClosedError if xenstored refuses or is lost
 */
export async function listDevices<T extends object>(
  view: XenstoreReader,
  { backendDomid, type, backendTypes = [type], read }: ListDevicesOptions<T>,
): Promise<(T & ListedDevice)[]> {
  const found = await Promise.all(
    backendTypes.map((backendType) => addressesIn(view, { backendDomid, type, backendType })),
  )
  const inOrder = found
    .flat()
    .toSorted((a, b) => a.frontendDomid - b.frontendDomid || a.devid - b.devid)
  const devices = await Promise.all(
    inOrder.map(async (device) => {
      const own = await lenient<T | undefined>(read(device), undefined)
      return own && { ...own, ...(await readListed(view, device)) }
    }),
  )
  return devices.filter((device) => device !== undefined)
}

async function addressesIn(
  view: XenstoreReader,
  where: {
    readonly backendDomid: number
    readonly type: string
    readonly backendType: string
  },
): Promise<DeviceAddress[]> {
  const root = backendRoot(where.backendDomid, where.backendType)
  const devices = await Promise.all(
    (await numbersIn(view, root, DOMID_MAX)).map(async (frontendDomid) => {
      const devids = await numbersIn(view, `${root}/${frontendDomid}`, UINT32_MAX)
      return devids.map((devid) => ({ ...where, frontendDomid, devid }))
    }),
  )
  return devices.flat()
}

async function readListed(view: XenstoreReader, device: DeviceAddress): Promise<ListedDevice> {
  const back = backendPath(device)
  const own = <T>(read: Promise<T>): Promise<T | undefined> =>
    lenient<T | undefined>(read, undefined)
  const [backendState, frontendState, claim, hotplugStatus, hotplugError, error] =
    await Promise.all([
      own(backendDeviceNodes.readNode(view, back, 'state')),
      own(ofOtherEnd(frontendDeviceNodes.readNode(view, frontendPath(device), 'state'))),
      own(backendDeviceNodes.readNode(view, back, 'xenkit-claim')),
      own(backendDeviceNodes.readNode(view, back, 'hotplug-status')),
      own(backendDeviceNodes.readNode(view, back, 'hotplug-error')),
      view.readOptional(errorPath(device)),
    ])
  return {
    backendState: nameOf(backendState),
    frontendState: nameOf(frontendState),
    claim,
    hotplugStatus,
    error: error ?? hotplugError,
  }
}

const nameOf = (state: XenbusState | undefined): string | undefined =>
  state === undefined ? undefined : xenbusStateName(state)

async function numbersIn(view: XenstoreReader, path: string, max: number): Promise<number[]> {
  const names = (await view.exists(path)) ? await view.list(path) : []
  return names.flatMap((name) => parseDecimal(name, { max }) ?? [])
}
