/** Paths in the store. */
import { XENSTORE_REL_PATH_MAX, xsPathFault } from '@xenkit/wire'
import type { Domain } from './domain.ts'
import { Refusal } from './refusal.ts'

/** Returns the home of a domain. */
export const homeOf = (domid: number): string => `/local/domain/${domid}`

/** Matches the part of an absolute path that `path-max` doesn't count. */
const LOCAL = /^\/local\/domain\/(\d{1,5}|-\d{1,4})\//

/** Whether a path names special events instead of a node. */
export const isSpecial = (text: string): boolean => text.startsWith('@')

/** Makes a path absolute, without checking it. */
export const absolutePath = (text: string, { domid }: Domain): string =>
  text.startsWith('/') || isSpecial(text) ? text : `${homeOf(domid)}/${text}`

/**
 * Returns the absolute path of a node.
 * @throws Refusal EINVAL for an invalid or too long path
 */
export function resolvePath(text: string, domain: Domain): string {
  const absolute = absolutePath(text, domain)
  // `path-max` is the only quota that domain 0 has.
  const max = domain.quota['path-max'] || Infinity
  if (xsPathFault(absolute) || absolute.replace(LOCAL, '').length > max) throw new Refusal('EINVAL')
  return absolute
}

/**
 * Returns the absolute path of a watch. Any path that starts with `@` is accepted, although only
 * special paths have events.
 * @throws Refusal EINVAL
 */
export function resolveWatchPath(text: string, domain: Domain): string {
  if (!isSpecial(text)) return resolvePath(text, domain)
  if (text.length > XENSTORE_REL_PATH_MAX) throw new Refusal('EINVAL')
  return text
}

/** The parent of `/` is `/`. */
export const parentOf = (path: string): string => path.slice(0, path.lastIndexOf('/')) || '/'
/** Returns the last name of a path. */
export const nameOf = (path: string): string => path.slice(path.lastIndexOf('/') + 1)
export const childOf = (path: string, name: string): string =>
  path === '/' ? `/${name}` : `${path}/${name}`

/** Yields the path itself, then its parents up to `/`. */
export function* upwards(path: string): Generator<string> {
  yield path
  for (let end = path.lastIndexOf('/'); end > 0; end = path.lastIndexOf('/', end - 1)) {
    yield path.slice(0, end)
  }
  if (path !== '/') yield '/'
}
