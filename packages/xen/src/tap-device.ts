/** Queues of TAP devices, in the form that links use. */
import type { Native } from '@xenkit/native'
import { optionalNative } from './optional-native.ts'

/** How to open a queue of a TAP device. */
export interface TapDeviceOptions {
  /** Name of the interface, 1..15 bytes. The kernel makes a number of `%d`. */
  readonly name: string
  /** Whether the interface may have several queues. */
  readonly multiQueue: boolean
  /** Most frames of a call, 1..1024. */
  readonly frames: number
  /** Called with 0 when there are frames to read, with a negative errno when the device failed. */
  readonly onReady: (status: number) => void
}

/**
 * A queue of a TAP device. Its columns describe the frames of one call, as those of `Frames` do.
 */
export type TapDevice = ReturnType<typeof open>

/**
 * Returns a function that opens a queue of a TAP device, and throws an Error with an errno's name
 * as `code`; undefined where the addon can't be loaded.
 */
export function openTapDevice(): ((o: TapDeviceOptions) => TapDevice) | undefined {
  const native = optionalNative()
  return native && ((o) => open(native, o))
}

function open(native: Native, { name, multiQueue, frames, onReady }: TapDeviceOptions) {
  const device = new native.TapDevice(name, multiQueue, frames, onReady)
  const layout = device.tableLayout()
  const table = device.createTable()
  const words = (offset: number, length = frames): Uint32Array =>
    new Uint32Array(table, offset, length)
  const halves = (offset: number): Uint16Array => new Uint16Array(table, offset, frames)
  const bytes = (offset: number): Uint8Array => new Uint8Array(table, offset, frames)
  const columns = {
    start: words(layout.start),
    length: words(layout.length),
    error: words(layout.error, 1),
    checksumStart: halves(layout.checksumStart),
    checksumOffset: halves(layout.checksumOffset),
    gsoSize: halves(layout.gsoSize),
    headers: halves(layout.headers),
    checksum: bytes(layout.checksum),
    gso: bytes(layout.gso),
  }
  return { device, columns, write: device.createWrite(), read: device.createRead() }
}
