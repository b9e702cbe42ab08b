/** Parses NBD URIs by doc/uri.md of the NBD project: `nbd`, `nbds`, `nbd+unix`, `nbds+unix`. */

export interface NbdTarget {
  readonly uri: string
  readonly address: { readonly host: string; readonly port: number } | { readonly path: string }
  readonly exportName: string
  /** Whether the connection must be encrypted. */
  readonly tls: boolean
}

const DEFAULT_PORT = 10809

/** @throws TypeError that says what is wrong with the URI */
export function parseNbdUri(uri: string): NbdTarget {
  const url = URL.canParse(uri)
    ? new URL(uri)
    : refuse(uri, 'expected nbd://HOST:PORT/EXPORT or nbd+unix:///EXPORT?socket=PATH')
  const [, tls, unix] =
    /^nbd(s?)(\+unix)?:$/.exec(url.protocol) ??
    refuse(uri, `scheme "${url.protocol.slice(0, -1)}" expected nbd, nbds, nbd+unix or nbds+unix`)
  const parameters = parametersOf(uri, url)
  return {
    uri,
    address: unix ? { path: socketPath(uri, url, parameters) } : hostAndPort(uri, url, parameters),
    exportName: decoded(uri, url.pathname.slice(1)),
    tls: tls !== '',
  }
}

/** Parses the query. Unlike URLSearchParams, RFC 3986 doesn't decode "+" as a blank. */
function parametersOf(uri: string, { search }: URL): ReadonlyMap<string, string> {
  const pairs = search
    .slice(1)
    .split('&')
    .filter((pair) => pair !== '')
  const parameters = new Map(
    pairs.map((pair) => {
      const [name = '', ...value] = pair.split('=')
      return [decoded(uri, name), decoded(uri, value.join('='))]
    }),
  )
  const unknown = [...parameters.keys()].find((name) => name !== 'socket')
  if (unknown !== undefined) {
    refuse(
      uri,
      `parameter "${unknown}" isn't known: only "socket" is, and what TLS needs is the option "tls"`,
    )
  }
  return parameters
}

function socketPath(uri: string, url: URL, parameters: ReadonlyMap<string, string>): string {
  if (url.host !== '') {
    refuse(
      uri,
      `host "${url.host}" has no place in it: a unix socket is nbd+unix:///EXPORT?socket=PATH`,
    )
  }
  const path = parameters.get('socket')
  if (path === undefined || path === '') return refuse(uri, 'it needs "?socket=PATH"')
  return path
}

function hostAndPort(
  uri: string,
  url: URL,
  parameters: ReadonlyMap<string, string>,
): { host: string; port: number } {
  if (parameters.has('socket')) refuse(uri, `"socket" belongs to ${url.protocol.slice(0, -1)}+unix`)
  if (url.hostname === '') refuse(uri, 'it names no host')
  if (url.username !== '' || url.password !== '') refuse(uri, 'a user is not supported')
  const host = decoded(uri, url.hostname.replace(/^\[(.*)\]$/, '$1'))
  return { host, port: url.port === '' ? DEFAULT_PORT : Number(url.port) }
}

function decoded(uri: string, text: string): string {
  try {
    return decodeURIComponent(text)
  } catch {
    return refuse(uri, `"${text}" isn't percent-encoded UTF-8`)
  }
}

function refuse(uri: string, why: string): never {
  throw new TypeError(`nbd uri "${uri}": ${why}`)
}
