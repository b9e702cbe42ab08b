/**
 * An image's size, units and support for discards, from stat and sysfs.
 */
import type { Stats } from 'node:fs'
import { type FileHandle, readFile } from 'node:fs/promises'
import type { DiscardLimits } from '@xenkit/block-store'
import { ImageError } from './image-error.ts'

export interface ImageGeometry {
  readonly blockDevice: boolean
  readonly sectors: number
  readonly physicalSectorSize: number
  /**
   * Limits of discards; undefined for a device that can't discard. A file always has limits: only a
   * trial shows whether its file system can punch holes.
   */
  readonly discardLimits: DiscardLimits | undefined
}

/**
 * Looks up an image's geometry.
 * @throws ImageError if it isn't a file or block device, is empty, or isn't a multiple of 512 bytes
 *   long: the text says what to do
 */
export async function imageGeometry(file: FileHandle, path: string): Promise<ImageGeometry> {
  const stat = await file.stat()
  if (stat.isDirectory()) {
    throw new ImageError(
      `image "${path}" can't be served: it is a directory: name a disk image or a block device`,
      { path, errno: 'EISDIR' },
    )
  }
  if (stat.isBlockDevice()) return deviceGeometry(stat, path)
  if (!stat.isFile()) {
    throw new ImageError(
      `image "${path}" can't be served: it is neither a file nor a block device`,
      { path },
    )
  }
  if (stat.size === 0) {
    throw new ImageError(`image "${path}" is empty: make it with truncate -s 1G "${path}"`, {
      path,
    })
  }
  if (stat.size % 512 !== 0) throw unaligned(path, stat.size, 512)
  // The file system reads a block before it writes a part of one, so 4096 is the unit if its block
  // is that large. A st_blksize above a page is a hint on transfers (NFS), not a block's size.
  const block = stat.blksize >= 4096 ? 4096 : 512
  return {
    blockDevice: false,
    sectors: stat.size / 512,
    physicalSectorSize: block,
    discardLimits: { granularity: block, alignment: 0, secure: false },
  }
}

export function unaligned(path: string, bytes: number, unit: number): ImageError {
  return new ImageError(
    `image "${path}" is ${bytes} bytes long, not a multiple of ${unit}: pad it with truncate -s ${Math.ceil(bytes / unit) * unit} "${path}"`,
    { path },
  )
}

/** A block device's st_size is 0; sysfs has its size, always in units of 512 bytes. */
async function deviceGeometry({ rdev }: Stats, path: string): Promise<ImageGeometry> {
  const device = `${(rdev >> 8) & 0xfff}:${(rdev & 0xff) | ((rdev >> 12) & 0xfff00)}`
  const directory = `/sys/dev/block/${device}`
  const sectors = await readNumber(`${directory}/size`)
  if (sectors === undefined) {
    throw new ImageError(
      `image "${path}" can't be served: /sys doesn't tell the size of block device ${device}`,
      { path },
    )
  }
  if (sectors === 0) {
    throw new ImageError(
      `image "${path}" is empty: there is nothing behind block device ${device}`,
      { path },
    )
  }
  // A partition has no queue of its own: its disk has one.
  const queue = async (name: string): Promise<number> =>
    (await readNumber(`${directory}/queue/${name}`)) ??
    (await readNumber(`${directory}/../queue/${name}`)) ??
    0
  const discards = (await queue('discard_max_bytes')) > 0
  return {
    blockDevice: true,
    sectors,
    physicalSectorSize: (await queue('physical_block_size')) || 512,
    discardLimits: discards
      ? {
          granularity: (await queue('discard_granularity')) || 512,
          alignment: (await readNumber(`${directory}/discard_alignment`)) ?? 0,
          secure: false,
        }
      : undefined,
  }
}

const readNumber = (path: string): Promise<number | undefined> =>
  readFile(path, 'utf8').then(Number, () => undefined)
