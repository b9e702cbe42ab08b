/** Returns the addon, or undefined where it can't be loaded, for callers that have a fallback. */
import { loadNative, type Native } from '@xenkit/native'

export function optionalNative(): Native | undefined {
  try {
    return loadNative()
  } catch {
    return undefined
  }
}
