/**
 * Opens, in a worker, a file store of another thread. `openFileStore` of xenkit names this module
 * in its `share`.
 */
import { type SharedImage, sharedFileStore } from '@xenkit/stores'
import { fileCalls } from '../open-file-store.ts'

/** Opens the store in this thread; its type is `OpenSharedStore`. */
const open = (
  image: SharedImage,
  size: { readonly sectors: number },
): ReturnType<typeof sharedFileStore> => sharedFileStore(image, size, fileCalls())

export default open
