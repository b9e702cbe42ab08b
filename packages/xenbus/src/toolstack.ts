/**
 * A toolstack's part in the life of a device: creates and removes the device's two directories, as
 * libxl does for `xl block-attach` and `xl block-detach`.
 */
import { XenError, XenstoreError } from '@xenkit/hypervisor'
import { XenbusState } from '@xenkit/wire'
import type { XenstoreClient, XenstoreReader, XenstoreView } from '@xenkit/xenstore-client'
import { lenient, writeNodes } from './node-access.ts'
import { backendDeviceNodes, frontendDeviceNodes, type NodeValues } from './nodes.ts'
import {
  backendPath,
  type DeviceAddress,
  domainHome,
  errorRoot,
  frontendPath,
  libxlHome,
  libxlPath,
} from './device-path.ts'

/** A device can't be plugged or unplugged. The text names the device and says why. */
export class ToolstackError extends XenError {
  constructor(message: string, details: { readonly device: DeviceAddress }) {
    super('ERR_XEN_TOOLSTACK', message, { ...details })
  }
}

/** A device to plug. */
export interface PlugOptions extends DeviceAddress {
  /** Nodes of the device's type for the frontend's directory. */
  readonly frontend: NodeValues
  /** Nodes of the device's type for the backend's directory. */
  readonly backend: NodeValues
  /** Only a server started with the same reservation takes the device. Default: no reservation. */
  readonly reservation?: string
}

/**
 * Creates the nodes of a new device in one transaction, so that both sides see all of them or none.
 * @throws ToolstackError when one of the two domains doesn't exist, or the frontend's domain
 * already has a device of this type and number
 */
export async function plugDevice(xs: XenstoreClient, o: PlugOptions): Promise<void> {
  const [front, back] = [frontendPath(o), backendPath(o)]
  const nameOf = `${o.type} ${o.devid} of domain ${o.frontendDomid}`
  await transact(xs, async (view) => {
    for (const domid of [o.frontendDomid, o.backendDomid]) {
      if (
        (await view.readOptional(`${domainHome(domid)}/domid`)) === undefined &&
        !(await xs.isDomainIntroduced(domid))
      ) {
        throw new ToolstackError(`domain ${domid} doesn't exist: see "xl list"`, { device: o })
      }
    }
    if ((await view.exists(`${front}/state`)) || (await view.exists(`${back}/state`))) {
      throw new ToolstackError(`${nameOf} is in use: choose another, or detach it first`, {
        device: o,
      })
    }
    // Each side owns its directory and lets the other side read it. Remove nodes of an earlier
    // device.
    await view.rm(front)
    await view.rm(back)
    await view.mkdir(front)
    await view.setPerms(front, {
      owner: o.frontendDomid,
      access: 'none',
      acl: [{ domid: o.backendDomid, access: 'read' }],
    })
    await view.mkdir(back)
    await view.setPerms(back, {
      owner: o.backendDomid,
      access: 'none',
      acl: [{ domid: o.frontendDomid, access: 'read' }],
    })
    const state = XenbusState.Initialising
    const frontend = frontendDeviceNodes.format({
      backend: back,
      'backend-id': o.backendDomid,
      state,
    })
    const backend = backendDeviceNodes.format({
      frontend: front,
      'frontend-id': o.frontendDomid,
      online: true,
      state,
      'xenkit-reserved-for': o.reservation,
    })
    await writeNodes(view, front, { ...o.frontend, ...frontend })
    await writeNodes(view, back, { ...o.backend, ...backend })
    if (await view.exists(libxlHome(o.frontendDomid))) {
      await writeNodes(view, libxlPath(o), { ...o.backend, ...backend, backend: back })
    }
  })
}

/**
 * Removes a device: asks both sides to close it, waits for the backend to do so, and removes the
 * nodes.
 * @param o.signal ends the wait: the nodes are then removed at once
 */
export async function unplugDevice(
  xs: XenstoreClient,
  device: DeviceAddress,
  o: { readonly signal?: AbortSignal } = {},
): Promise<void> {
  const back = backendPath(device)
  const stateIn = (view: XenstoreReader): Promise<XenbusState | undefined> =>
    lenient(backendDeviceNodes.readNode(view, back, 'state'), XenbusState.Unknown)
  const asked = await transact(xs, async (view) => {
    const state = await stateIn(view)
    // No backend has claimed the device, so there is none to wait for.
    if (state === undefined || state === XenbusState.Initialising) {
      await removeNodes(view, device)
      return false
    }
    await backendDeviceNodes.write(view, back, {
      online: false,
      state: state === XenbusState.Closed ? undefined : XenbusState.Closing,
    })
    return true
  })
  if (asked) {
    try {
      await xs.wait(async (view) => {
        const state = await stateIn(view)
        return state === undefined || state === XenbusState.Closed ? true : undefined
      }, o)
    } catch (error) {
      if (!o.signal?.aborted) throw error
    }
    await transact(xs, (view) => removeNodes(view, device))
  }
  await prune(xs, device)
}

/**
 * Runs a transaction, and runs it again after ENOMEM. C xenstored answers that once if a domain
 * dies while the transaction changes nodes of that domain.
 */
async function transact<T>(
  xs: XenstoreClient,
  body: (view: XenstoreView) => Promise<T>,
): Promise<T> {
  try {
    return await xs.transaction(body)
  } catch (error) {
    if (!(error instanceof XenstoreError) || error.errno !== 'ENOMEM') throw error
    return xs.transaction(body)
  }
}

async function removeNodes(view: XenstoreView, device: DeviceAddress): Promise<void> {
  for (const path of [frontendPath, backendPath, errorRoot, libxlPath]) await view.rm(path(device))
}

/** Removes the directories above a removed device that have become empty, as libxl does. */
async function prune(xs: XenstoreClient, device: DeviceAddress): Promise<void> {
  try {
    await xs.transaction(async (view) => {
      await pruneAbove(view, backendPath(device), 3) // backend/TYPE/DOMID
      // Keep the directory `error`: the toolstack created it with the domain, and the domain has no
      // right to create it again.
      await pruneAbove(view, errorRoot(device), 3) // backend/TYPE/DOMID
      await pruneAbove(view, libxlPath(device), 2) // device/TYPE
    })
  } catch {
    // The error doesn't matter: an empty directory does no harm, and another device may just be
    // plugged in it.
  }
}

async function pruneAbove(view: XenstoreView, path: string, levels: number): Promise<void> {
  let parent = path
  for (let i = 0; i < levels; i++) {
    parent = parent.slice(0, parent.lastIndexOf('/'))
    if (!(await view.exists(parent))) continue
    if ((await view.list(parent)).length > 0) return
    await view.rm(parent)
  }
}
