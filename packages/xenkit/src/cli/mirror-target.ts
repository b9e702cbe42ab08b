/** `MirrorTarget`: where `xenkit net mirror` copies frames to, as in the node `xenkit-mirror`. */
import type { ErspanAddress } from '@xenkit/links'

/** A card or a TAP device, which gets the copies. */
export type MirrorPort =
  | { readonly kind: 'card'; readonly domid: number; readonly devid: number }
  | { readonly kind: 'tap'; readonly name: string }

/** An ERSPAN tunnel to a collector. */
export interface Tunnel {
  readonly from: ErspanAddress
  readonly to: ErspanAddress
  readonly session: number
}

export interface MirrorTarget {
  readonly port: MirrorPort
  /** Undefined: the copies are sent as they are. */
  readonly tunnel: Tunnel | undefined
}

/** Parses a port: `card:3.0`, `tap:span0`. Returns undefined for another text. */
export function parseMirrorPort(text: string): MirrorPort | undefined {
  const [, domid, devid] = /^card:(\d{1,5})\.(\d{1,10})$/.exec(text) ?? []
  if (domid !== undefined) return { kind: 'card', domid: Number(domid), devid: Number(devid) }
  const [, name] = /^tap:([^\s/]{1,15})$/.exec(text) ?? []
  return name === undefined ? undefined : { kind: 'tap', name }
}

const TUNNEL_END = '([\\da-fA-F:]{17})/([\\d.]{7,15})'
const TUNNEL = new RegExp(`^${TUNNEL_END},${TUNNEL_END}(?:,(\\d{1,4}))?$`)

/**
 * Parses a tunnel: the addresses of its two ends, and the session if it isn't 0, as in
 * `00:16:3e:00:00:01/192.0.2.1,00:16:3e:00:00:02/192.0.2.2,7`. `openErspan` checks their values.
 * Returns undefined for a text of another form.
 */
export function parseTunnel(text: string): Tunnel | undefined {
  const [match, fromMac = '', fromIp = '', toMac = '', toIp = '', session = '0'] =
    TUNNEL.exec(text) ?? []
  if (match === undefined) return undefined
  return {
    from: { mac: fromMac, ip: fromIp },
    to: { mac: toMac, ip: toIp },
    session: Number(session),
  }
}

/**
 * Parses the node: a port, and perhaps a blank and a tunnel. Returns undefined for another text.
 */
export function parseMirrorTarget(text: string): MirrorTarget | undefined {
  const [portText = '', tunnelText, ...rest] = text.split(' ')
  const port = parseMirrorPort(portText)
  const tunnel = tunnelText === undefined ? undefined : parseTunnel(tunnelText)
  const isWhole = rest.length === 0 && (tunnel !== undefined || tunnelText === undefined)
  return port && isWhole ? { port, tunnel } : undefined
}
