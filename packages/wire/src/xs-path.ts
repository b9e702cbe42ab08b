/**
 * The syntax of xenstore paths (docs/misc/xenstore.txt): names of letters, digits and `-_@`,
 * separated by `/`. No name is empty, and there is no slash at the end. A path without a leading
 * slash is relative to /local/domain/DOMID of the domain that asks.
 */
import { XENSTORE_ABS_PATH_MAX, XENSTORE_REL_PATH_MAX } from './xs-wire.ts'

const ALPHABET = /^[A-Za-z0-9\-/_@]*$/

/**
 * Checks a node's path.
 * @returns what is wrong, as the end of a sentence, or `undefined` if the path is valid
 */
export function xsPathFault(path: string): string | undefined {
  if (path === '') return 'is empty'
  if (!ALPHABET.test(path)) return 'has a character other than letters, digits and -/_@'
  if (path.startsWith('@')) return 'names a special watch, not a node'
  if (path.length > 1 && path.endsWith('/')) return 'ends with a slash'
  if (path.includes('//')) return 'has an empty name between two slashes'
  const max = path.startsWith('/') ? XENSTORE_ABS_PATH_MAX : XENSTORE_REL_PATH_MAX
  return path.length > max ? `is longer than ${max} bytes` : undefined
}

/**
 * Checks a path to watch: a node's path, `@introduceDomain` or `@releaseDomain`.
 * @returns what is wrong, as the end of a sentence, or `undefined` if the path is valid
 */
export const xsWatchPathFault = (path: string): string | undefined =>
  xsPathFault(path.startsWith('@') ? `/${path}` : path)
