/** Paths within the store. */
import { xsPathFault, xsWatchPathFault } from '@xenkit/wire'
import type { Domain } from './domain.ts'
import { Refusal } from './refusal.ts'

export const homeOf = (domid: number): string => `/local/domain/${domid}`

const LOCAL = /^\/local\/domain\/\d{1,5}\//

export const absolutePath = (text: string, { domid }: Domain): string => (text.startsWith('/') || text.startsWith('@') ? text : `${homeOf(domid)}/${text}`)

/** Makes a path absolute. @param special whether it may also name a special watch. */
export function resolvePath(text: string, domain: Domain, special: 'special' | 'node' = 'node'): string {
  const absolute = absolutePath(text, domain)
  const fault = special === 'special' ? xsWatchPathFault(absolute) : xsPathFault(absolute)
  if (text === '' || fault) throw new Refusal('EINVAL')
  // A guest's limit is that of relative paths, wherever its home is.
  if (absolute.replace(LOCAL, '').length > domain.limit('path-max')) throw new Refusal('EINVAL')
  return absolute
}

/** `/` is its own parent, and that of the special nodes. */
export const parentOf = (path: string): string => path.slice(0, path.lastIndexOf('/')) || '/'
export const nameOf = (path: string): string => path.slice(path.lastIndexOf('/') + 1)
export const childOf = (path: string, name: string): string => (path === '/' ? `/${name}` : `${path}/${name}`)

/** The path itself, then its parents up to and with `/`. Special paths end at their own root. */
export function* upwards(path: string): Generator<string> {
  yield path
  for (let end = path.lastIndexOf('/'); end > 0; end = path.lastIndexOf('/', end - 1)) yield path.slice(0, end)
  if (path.startsWith('/') && path !== '/') yield '/'
}
