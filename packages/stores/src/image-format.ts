/**
 * What keeps a container, such as a qcow2 file, from being served as raw: writes would destroy it.
 * Contents are looked at for nothing else: a guest can write any header to its own raw disk, so a
 * header never has another file opened, and isn't held against the guest that wrote it.
 */
import type { FileHandle } from 'node:fs/promises'
import { ImageError } from './image-error.ts'
import { imageGeometry } from './image-geometry.ts'

interface Container {
  readonly name: string
  /** What qemu-nbd calls it. */
  readonly qemu?: string
  readonly magic: string
  /** Byte of the file. Negative: from its end. Default 0. */
  readonly at?: number
}

const SECTOR = 512
/** A unit of direct reads on every disk. */
const PIECE = 4096

const containers: readonly Container[] = [
  { name: 'qcow2', qemu: 'qcow2', magic: 'QFI\xfb' },
  { name: 'VHD', qemu: 'vpc', magic: 'conectix' },
  // A VHD of fixed size has its only header behind the data.
  { name: 'VHD', qemu: 'vpc', magic: 'conectix', at: -SECTOR },
  { name: 'VHDX', qemu: 'vhdx', magic: 'vhdxfile' },
  { name: 'VMDK', qemu: 'vmdk', magic: 'KDMV' },
  { name: 'VMDK', qemu: 'vmdk', magic: 'COWD' },
  { name: 'VMDK', qemu: 'vmdk', magic: '# Disk DescriptorFile' },
  { name: 'VDI', qemu: 'vdi', magic: '\x7f\x10\xda\xbe', at: 64 },
  { name: 'LUKS', magic: 'LUKS\xba\xbe' },
]

/** By device and inode: first and last sector of images that guests of this process left so. */
const leftByGuests = new Map<string, Buffer>()

/**
 * @throws ImageError if the image is a container, unless a guest of this process made it look so
 */
export async function expectRaw(file: FileHandle, path: string, sectors: number): Promise<void> {
  const { key, ends } = await lookAt(file, sectors)
  const found = containerOf(ends)
  if (!found || leftByGuests.get(key)?.equals(ends)) return
  const how = found.qemu
    ? `serve it by qemu-nbd --format=${found.qemu} and openNbdStore`
    : 'unlock it by cryptsetup and serve the device'
  const raw = `or, if it is a guest's own raw disk, say so by "format": raw`
  const what = `begins or ends as a ${found.name} container, which writes would destroy`
  throw new ImageError(`image "${path}" ${what}: ${how}, ${raw}`, { path })
}

/** Remembers what guests have written, so that it isn't held against them when they come again. */
export async function rememberRaw(file: FileHandle, path: string): Promise<void> {
  const { sectors } = await imageGeometry(file, path)
  const { key, ends } = await lookAt(file, sectors)
  if (containerOf(ends)) leftByGuests.set(key, ends)
  else leftByGuests.delete(key)
}

async function lookAt(file: FileHandle, sectors: number) {
  const { dev, ino } = await file.stat({ bigint: true })
  // A growable buffer begins at a page, and is as large as one: a direct read wants both.
  const memory = new SharedArrayBuffer(2 * PIECE, { maxByteLength: 2 * PIECE })
  const [first, last] = [Buffer.from(memory, 0, PIECE), Buffer.from(memory, PIECE, PIECE)]
  const bytes = sectors * SECTOR
  const tail = Math.floor((bytes - SECTOR) / PIECE) * PIECE
  await file.read(first, 0, PIECE, 0)
  await file.read(last, 0, PIECE, tail)
  const end = bytes - SECTOR - tail
  const ends = [first.subarray(0, SECTOR), last.subarray(end, end + SECTOR)]
  return { key: `${dev}:${ino}`, ends: Buffer.concat(ends) }
}

const containerOf = (ends: Buffer): Container | undefined =>
  containers.find(({ magic, at = 0 }) => {
    const bytes = Buffer.from(magic, 'latin1')
    const start = at < 0 ? ends.length + at : at
    return ends.subarray(start, start + bytes.length).equals(bytes)
  })
