/** The toolstack's part in changing a served device: another medium, another size. */
import type { XenstoreClient, XenstoreReader, XenstoreView } from '@xenkit/xenstore-client'
import { type DeviceAddress, backendPath, libxlPath, refusalPath } from './device-path.ts'
import { ofOtherEnd, writeNodes } from './node-access.ts'
import { backendDeviceNodes, type NodeValues, RESULT_OK, answersTo } from './nodes.ts'
import { ToolstackError } from './toolstack.ts'

/**
 * Writes nodes for the driver of a served device, and waits until the driver has followed or
 * refused the change. Nodes that did not exist before exist only during the request. The others
 * keep the new value, or get the old one back if the driver refuses.
 * @param o.signal ends the wait; the change may still happen
 * @throws ToolstackError with the driver's reason, or if no xenkit server serves the device
 */
export async function changeDevice(
  xs: XenstoreClient,
  device: DeviceAddress,
  nodes: NodeValues,
  o: { readonly signal?: AbortSignal } = {},
): Promise<void> {
  const back = backendPath(device)
  const request = crypto.randomUUID()
  const name = `${device.type} ${device.devid} of domain ${device.frontendDomid}`
  const before = await xs.transaction(async (view) => {
    if ((await backendDeviceNodes.readNode(view, back, 'xenkit-claim')) === undefined) {
      throw new ToolstackError(`${name} is not served by xenkit`, { device })
    }
    const [pending, result = ''] = await Promise.all([
      backendDeviceNodes.readNode(view, back, 'xenkit-request'),
      backendDeviceNodes.readNode(view, back, 'xenkit-result'),
    ])
    if (pending !== undefined && !answersTo(result, pending)) {
      throw new ToolstackError(`${name} is being changed by somebody else: try again`, { device })
    }
    const values = await readNodes(view, back, nodes)
    await writeEverywhere(view, device, nodes)
    await backendDeviceNodes.write(view, back, { 'xenkit-request': request })
    return values
  })
  const answer = await xs.wait(async (view) => {
    const result = await backendDeviceNodes.readNode(view, back, 'xenkit-result')
    if (result !== undefined && answersTo(result, request)) return result.slice(request.length + 1)
    // If the device's directory is gone, no driver will answer the request.
    return (await view.exists(`${back}/xenkit-request`)) ? undefined : 'it was detached'
  }, o)
  const undone = Object.entries(before).filter(
    ([, value]) => value === undefined || answer !== RESULT_OK,
  )
  await xs.transaction(async (view) => {
    if ((await backendDeviceNodes.readNode(view, back, 'xenkit-request')) !== request) return
    for (const [node, value] of undone) {
      await (value === undefined
        ? view.rm(`${back}/${node}`)
        : writeEverywhere(view, device, { [node]: value }))
    }
  })
  if (answer === RESULT_OK) return
  const refusal = await ofOtherEnd(xs.readOptional(refusalPath(device)))
  const isWhole = refusal !== undefined && answersTo(refusal, request)
  const reason = isWhole ? refusal.slice(request.length + 1) : answer
  throw new ToolstackError(`${name} was not changed: ${reason}`, { device })
}

async function readNodes(
  view: XenstoreReader,
  path: string,
  nodes: NodeValues,
): Promise<Record<string, string | undefined>> {
  return Object.fromEntries(
    await Promise.all(
      Object.keys(nodes).map(
        async (node) => [node, await view.readOptional(`${path}/${node}`)] as const,
      ),
    ),
  )
}

/**
 * Writes the nodes for the backend, and into libxl's record of the device, as `xl cd-insert` does.
 */
async function writeEverywhere(
  view: XenstoreView,
  device: DeviceAddress,
  nodes: NodeValues,
): Promise<void> {
  await writeNodes(view, backendPath(device), nodes)
  if (await view.exists(libxlPath(device))) await writeNodes(view, libxlPath(device), nodes)
}
