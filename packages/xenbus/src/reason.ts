/** The text of an error for nodes: all of it for the operator, less where the guest reads it. */
import { XenError, printable, textOf } from '@xenkit/hypervisor'
import { REASON_MAX } from './nodes.ts'

/** For nodes that the guest can't read: those in the backend domain's own `error` directory. */
export const reasonOf = (error: unknown): string => cut(messageOf(error))

/**
 * For nodes of the backend's directory, all of which the guest can read: without what is only this
 * host's business, the paths and URIs of images and the addresses of servers.
 */
export function reasonForGuest(error: unknown): string {
  const text = placesOf(error).reduce(withoutWord, messageOf(error)).replace(QUOTED_PATH, '$1…$1')
  return cut(text.replace(/\S+/g, (word) => (isPlace(word) ? '…' : word)))
}

const messageOf = (error: unknown): string =>
  error instanceof XenError ? error.message : `unexpected: ${textOf(error)}`

/** As much as a node holds, whole characters of it. */
const cut = (text: string): string =>
  text.slice(0, new TextEncoder().encodeInto(text, new Uint8Array(REASON_MAX)).read)

/** Where errors of the system, and stores' own, say what of this host they are about. */
const PLACES = ['path', 'dest', 'uri', 'address', 'hostname', 'host'] as const

/** More than an error has causes. Some go round in a circle. */
const MAX_CAUSES = 8

/** Longer ones first: one may be the beginning of another. */
function placesOf(error: unknown): readonly string[] {
  const places: string[] = []
  let cause = error
  for (let i = 0; i < MAX_CAUSES && cause instanceof Error; i++) {
    const named: Readonly<Record<string, unknown>> =
      cause instanceof XenError ? { ...cause, ...cause.details } : { ...cause }
    places.push(...PLACES.map((name) => named[name]).filter((place) => typeof place === 'string'))
    cause = cause.cause
  }
  const shown = places.map(printable).filter((place) => place !== '')
  return shown.toSorted((a, b) => b.length - a.length)
}

const withoutWord = (text: string, word: string): string =>
  text.replaceAll(word, (_, at: number) => {
    const [before = '', after = ''] = [text[at - 1], text[at + word.length]]
    return /\w/.test(before) || /\w/.test(after) ? word : '…'
  })

/** A path between quotes may have blanks in it. One in xenstore is no secret of this host's. */
const QUOTED_PATH = /(?<!\w)(["'])(?!\/local\/domain\/)(?:(?!\1).)*\/(?:(?!\1).)*\1/g

/** A path, a URI, or a host with a port. */
const isPlace = (word: string): boolean =>
  /\/|:\d/.test(word) && !/^["'(]*\/local\/domain\//.test(word)
