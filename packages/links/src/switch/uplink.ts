/** `plugUplink`: plugs a port of a switch into another link, as if it were a card. */
import { ALL_OFFLOADS, type Card, type Link, NO_OFFLOADS, type PluggedLink } from '@xenkit/frames'
import type { PortOptions } from './port-settings.ts'
import type { Port } from './switch-port.ts'

/** Options of an uplink's port. */
export interface UplinkOptions extends PortOptions {
  /** Name that the link sees as its card's, default "uplink". */
  readonly name?: string
  /** Called when the link is lost for good, which closes the port. Default: a process warning. */
  readonly onFail?: (error: unknown) => void
}

const warn = (error: unknown): void => {
  process.emitWarning(error instanceof Error ? error : String(error))
}

/** Plugs a port into a link until the port is closed. @throws Error of the link */
export async function plugUplink(port: Port, link: Link, o: UplinkOptions): Promise<void> {
  const { name = 'uplink', onFail = warn } = o
  let outer: PluggedLink | undefined
  const card = { name, domid: 0, devid: 0, mac: undefined }
  const fail = (error: unknown): void => {
    onFail(error)
    port.close().catch(onFail)
  }
  const inner = port.plug({
    ...card,
    get offloads() {
      return outer?.offloads ?? NO_OFFLOADS
    },
    send: (frames) => outer?.send(frames),
    carrier: (up) => outer?.carrier?.(up),
    fail,
  })
  const far: Card = {
    ...card,
    offloads: ALL_OFFLOADS,
    send: (frames) => inner.send(frames),
    carrier: (up) => inner.carrier?.(up),
    fail,
  }
  outer = await link.plug(far)
  port.onClose = () => outer?.close()
  outer.carrier?.(true)
}
