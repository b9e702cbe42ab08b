/**
 * Refuses to serve a container, such as a qcow2 file, as a raw image: writes would destroy it.
 * Content is read for nothing else, because a guest can write any header to its own raw disk. So a
 * header never makes this package open another file, and the guest that wrote it keeps its disk.
 */
import type { FileHandle } from 'node:fs/promises'
import { ImageError } from './image-error.ts'
import { imageGeometry } from './image-geometry.ts'

interface Container {
  readonly name: string
  /** Name of the format in qemu-nbd's options. */
  readonly qemu?: string
  readonly magic: string
  /** Position of `magic` in bytes, from the end if negative. Default 0. */
  readonly at?: number
}

const SECTOR = 512
/** Bytes of one read. Direct reads (O_DIRECT) of this size work on every disk. */
const PIECE = 4096

const containers: readonly Container[] = [
  { name: 'qcow2', qemu: 'qcow2', magic: 'QFI\xfb' },
  { name: 'VHD', qemu: 'vpc', magic: 'conectix' },
  // A VHD of fixed size has no header, but a footer.
  { name: 'VHD', qemu: 'vpc', magic: 'conectix', at: -SECTOR },
  { name: 'VHDX', qemu: 'vhdx', magic: 'vhdxfile' },
  { name: 'VMDK', qemu: 'vmdk', magic: 'KDMV' },
  { name: 'VMDK', qemu: 'vmdk', magic: 'COWD' },
  { name: 'VMDK', qemu: 'vmdk', magic: '# Disk DescriptorFile' },
  { name: 'VDI', qemu: 'vdi', magic: '\x7f\x10\xda\xbe', at: 64 },
  { name: 'LUKS', magic: 'LUKS\xba\xbe' },
]

/**
 * First and last sector of images, by device and inode, that guests of this process made look like
 * containers.
 */
const leftByGuests = new Map<string, Buffer>()

/**
 * Checks that an image is raw.
 * @throws ImageError if it is a container, unless a guest of this process wrote that header
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

/** Remembers a header that guests have written, so that their disk can be opened again. */
export async function rememberRaw(file: FileHandle, path: string): Promise<void> {
  const { sectors } = await imageGeometry(file, path)
  const { key, ends } = await lookAt(file, sectors)
  if (containerOf(ends)) leftByGuests.set(key, ends)
  else leftByGuests.delete(key)
}

async function lookAt(file: FileHandle, sectors: number) {
  const { dev, ino } = await file.stat({ bigint: true })
  // Direct reads need aligned memory: a growable buffer starts at a page.
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
