/** `plugUplink`: plugs a port of a switch into another link, as if it were a card. */
import { ALL_OFFLOADS, type Link, NO_OFFLOADS, type PluggedLink } from '@xenkit/frames'
import { type VirtualCardOptions, virtualCard } from '../virtual-card.ts'
import type { PortOptions } from './port-settings.ts'
import type { Port } from './switch-port.ts'

/** Options of an uplink's port. When the link is lost for good, the port is closed. */
export interface UplinkOptions extends PortOptions, VirtualCardOptions {}

/** Plugs a port into a link until the port is closed. @throws Error of the link */
export async function plugUplink(port: Port, link: Link, o: UplinkOptions): Promise<void> {
  let outer: PluggedLink | undefined
  const card = virtualCard(o, () => port.close())
  const inner = port.plug({
    ...card,
    get offloads() {
      return outer?.offloads ?? NO_OFFLOADS
    },
    send: (frames) => outer?.send(frames),
    carrier: (up) => outer?.carrier?.(up),
  })
  outer = await link.plug({
    ...card,
    offloads: ALL_OFFLOADS,
    send: (frames) => inner.send(frames),
    carrier: (up) => inner.carrier?.(up),
  })
  await port.own(outer)
  outer.carrier?.(true)
}
