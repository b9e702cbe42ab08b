/** The addon for what does without it where it can't be loaded. */
import { loadNative, type Native } from '@xenkit/native'

export function optionalNative(): Native | undefined {
  try {
    return loadNative()
  } catch {
    return undefined
  }
}
