/** Opens the images that disks name, and closes each when its disk no longer uses it. */
import { stat } from 'node:fs/promises'
import { resolve } from 'node:path'
import type { BlockStore, RequestedDisk, StoreAnswer } from '@xenkit/vbd'
import { type FileStore, ImageError } from '@xenkit/stores'
import { openFileStore } from '../open-file-store.ts'

export interface ImagesOptions {
  /** Open all images read-only, whatever the disks' configurations say. */
  readonly readOnly: boolean
  /** Lock the images; see `openFileStore`. */
  readonly locking: boolean
  /** Format of all images; see `openFileStore`. */
  readonly format?: 'raw'
}

/** The open images. Its `store` and `release` are the options of `serveVbd` with these names. */
export class Images {
  readonly #open = new Map<BlockStore, FileStore>()
  readonly #o: ImagesOptions

  constructor(o: ImagesOptions) {
    this.#o = o
  }

  /** Opens the image in the toolstack's configuration, or reports an empty CD-ROM drive. */
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
        `image "${target}" has the format ${format}: only raw images can be served`,
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
 * Whether a CD-ROM drive has no medium. libxl then names no image, or (since 4.19, for
 * backendtype=phy) an empty file that libxl creates.
 */
const isEmpty = async (target: string): Promise<boolean> =>
  target === '' ||
  stat(target).then(
    (found) => found.isFile() && found.size === 0,
    () => false,
  )
