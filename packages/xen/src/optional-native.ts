/** Loads the addon, for callers that have a fallback without it. */
import { loadNative, type Native } from '@xenkit/native'
import { codeOf } from './native-error.ts'

/**
 * Returns the addon, or undefined where there is none that can be loaded.
 * @throws Error if the addon belongs to another version: the installation is broken
 */
export function optionalNative(): Native | undefined {
  try {
    return loadNative()
  } catch (error) {
    if (codeOf(error) === 'ERR_XENKIT_NATIVE_ABI') throw error
    return undefined
  }
}
