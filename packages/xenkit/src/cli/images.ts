/** The images that disks name, opened when they ask and closed when they are done with them. */
import { stat } from 'node:fs/promises'
import { resolve } from 'node:path'
import type { BlockStore, RequestedDisk, StoreAnswer } from '@xenkit/vbd'
import { type FileStore, ImageError } from '@xenkit/stores'
import { openFileStore } from '../open-file-store.ts'

export interface ImagesOptions {
  /** All of them, whatever the disks' lines say. */
  readonly readOnly: boolean
  /** See `openFileStore`. */
  readonly locking: boolean
  /** Of all of them, see `openFileStore`. */
  readonly format?: 'raw'
}

/** `store` and `release` are what `serveVbd` takes by these names. */
export class Images {
  readonly #open = new Map<BlockStore, FileStore>()
  readonly #o: ImagesOptions

  constructor(o: ImagesOptions) {
    this.#o = o
  }

  /** Opens the image that the disk's line names. */
  readonly store = async (disk: RequestedDisk): Promise<StoreAnswer> => {
    const { target, format, formatSaid, cdrom, readOnly } = disk
    if (cdrom && (await isEmpty(target))) return 'no-medium'
    if (target === '') {
      throw new ImageError('the disk names no image: put target=IMAGE into its line', {
        path: target,
      })
    }
    if (format !== 'raw') {
      throw new ImageError(
        `image "${target}" is of format ${format}: only raw ones can be served`,
        { path: target },
      )
    }
    const image = await openFileStore(resolve(target), {
      ...this.#o,
      ...(formatSaid && { format }),
      readOnly: this.#o.readOnly || readOnly || cdrom,
    })
    this.#open.set(image, image)
    return image
  }

  readonly release = async (store: BlockStore): Promise<void> => {
    const image = this.#open.get(store)
    this.#open.delete(store)
    await image?.close()
  }
}

/**
 * No medium: libxl names none, or (since 4.19, for backendtype=phy) an empty file that it makes.
 */
const isEmpty = async (target: string): Promise<boolean> =>
  target === '' ||
  stat(target).then(
    (found) => found.isFile() && found.size === 0,
    () => false,
  )
