/** A file store that another thread opened: what `openFileStore` of xenkit is shared by. */
import { type SharedImage, sharedFileStore } from '@xenkit/stores'
import { fileCalls } from '../open-file-store.ts'

const open = (
  image: SharedImage,
  size: { readonly sectors: number },
): ReturnType<typeof sharedFileStore> => sharedFileStore(image, size, fileCalls())

export default open
