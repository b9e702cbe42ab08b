/** Paths within the store. */
import { XENSTORE_REL_PATH_MAX, xsPathFault } from '@xenkit/wire'
import type { Domain } from './domain.ts'
import { Refusal } from './refusal.ts'

export const homeOf = (domid: number): string => `/local/domain/${domid}`

/** What the length of a path is counted without. */
const LOCAL = /^\/local\/domain\/(\d{1,5}|-\d{1,4})\//

export const isSpecial = (text: string): boolean => text.startsWith('@')

export const absolutePath = (text: string, { domid }: Domain): string =>
  text.startsWith('/') || isSpecial(text) ? text : `${homeOf(domid)}/${text}`

/** Makes the path of a node absolute. */
export function resolvePath(text: string, domain: Domain): string {
  const absolute = absolutePath(text, domain)
  // Domain 0 has a quota in this alone.
  const max = domain.quota['path-max'] || Infinity
  if (xsPathFault(absolute) || absolute.replace(LOCAL, '').length > max) throw new Refusal('EINVAL')
  return absolute
}

/**
 * The same for what is watched: anything that begins with `@` may be, though only special paths are
 * ever told of.
 */
export function resolveWatchPath(text: string, domain: Domain): string {
  if (!isSpecial(text)) return resolvePath(text, domain)
  if (text.length > XENSTORE_REL_PATH_MAX) throw new Refusal('EINVAL')
  return text
}

/** `/` is its own parent. */
export const parentOf = (path: string): string => path.slice(0, path.lastIndexOf('/')) || '/'
export const nameOf = (path: string): string => path.slice(path.lastIndexOf('/') + 1)
export const childOf = (path: string, name: string): string =>
  path === '/' ? `/${name}` : `${path}/${name}`

/** The path itself, then its parents up to and with `/`. */
export function* upwards(path: string): Generator<string> {
  yield path
  for (let end = path.lastIndexOf('/'); end > 0; end = path.lastIndexOf('/', end - 1)) {
    yield path.slice(0, end)
  }
  if (path !== '/') yield '/'
}
