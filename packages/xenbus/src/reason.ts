/** Texts of errors for nodes: whole for the operator, shortened where the guest can read them. */
import { XenError, printable, textOf } from '@xenkit/hypervisor'
import { REASON_MAX } from './nodes.ts'

/** Text for nodes that the guest can't read, in the backend domain's `error` directory. */
export const reasonOf = (error: unknown): string => cut(messageOf(error))

/**
 * Text for nodes of the backend's directory, which the guest can read: without paths and URIs of
 * images and addresses of servers.
 */
export function reasonForGuest(error: unknown): string {
  const text = placesOf(error).reduce(withoutWord, messageOf(error)).replace(QUOTED_PATH, '$1…$1')
  return cut(text.replace(/\S+/g, (word) => (isPlace(word) ? '…' : word)))
}

const messageOf = (error: unknown): string =>
  error instanceof XenError ? error.message : `unexpected: ${textOf(error)}`

/** Cuts a text to what a node holds, at a whole character. */
const cut = (text: string): string =>
  text.slice(0, new TextEncoder().encodeInto(text, new Uint8Array(REASON_MAX)).read)

/** Properties in which errors of the system and of stores name a place on this host. */
const PLACES = ['path', 'dest', 'uri', 'address', 'hostname', 'host'] as const

/** Most causes of an error to follow, since an error may be its own cause. */
const MAX_CAUSES = 8

/**
 * Returns the places that an error and its causes name. Longer ones come first, because one place
 * may be the beginning of another.
 */
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

/**
 * Matches a quoted path, which may contain blanks. Paths in xenstore are no secret, so they don't
 * match.
 */
const QUOTED_PATH = /(?<!\w)(["'])(?!\/local\/domain\/)(?:(?!\1).)*\/(?:(?!\1).)*\1/g

/** Whether a word is a path, a URI, or a host with a port. */
const isPlace = (word: string): boolean =>
  /\/|:\d/.test(word) && !/^["'(]*\/local\/domain\//.test(word)
