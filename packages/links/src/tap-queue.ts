/** `TapQueue`: moves batches of frames between `Frames` and a queue of a TAP device. */
import { Checksum, type Frames, Gso, MAX_FRAME, MIN_FRAME, type Offloads } from '@xenkit/frames'
import { LinkError } from './link-error.ts'

/** Frames of a call. With more, what else waits for the event loop would wait longer. */
export const TAP_BATCH = 64
/** Place of the upper half byte of a TCP header that has the header's length in words. */
const TCP_DATA_OFFSET = 12

/** The addon's calls that a TAP device needs. */
export interface TapCalls {
  /**
   * Opens a queue of a TAP device. It throws an Error with an errno's name as `code`. Undefined
   * without the addon.
   */
  readonly openTapDevice: ((o: TapQueueOptions) => TapDevice) | undefined
}

export interface TapQueueOptions {
  readonly name: string
  readonly multiQueue: boolean
  readonly frames: number
  /** Called with 0 when there are frames, with a negative errno when the device has failed. */
  readonly onReady: (status: number) => void
}

/** A queue of a TAP device, as the addon opens it. */
export interface TapDevice {
  readonly device: {
    /** Bytes between the places of received frames in memory. */
    readonly place: number
    name(): string
    /** Sets whether `onReady` is called for frames. */
    watch(on: boolean): void
    setOffloads(flags: number): void
    setPersistent(on: boolean): void
    setCarrier(on: boolean): void
    setUp(up: boolean): void
    setMtu(mtu: number): void
    close(): void
  }
  /** Descriptions of the frames of a call, as the columns of `Frames`. */
  readonly columns: Readonly<
    Record<'start' | 'length' | 'error', Uint32Array> &
      Record<'checksumStart' | 'checksumOffset' | 'gsoSize' | 'headers', Uint16Array> &
      Record<'checksum' | 'gso', Uint8Array>
  >
  /** Sends the first `count` frames; returns how many the kernel took. */
  readonly write: (memory: Uint8Array, count: number) => number
  /** Receives up to `count` frames, each into a place of its own; returns how many. */
  readonly read: (memory: Uint8Array, count: number) => number
}

const advice: Partial<Record<string, string>> = {
  ENOENT: 'there is no /dev/net/tun: load the module tun',
  EACCES: 'this user may not open /dev/net/tun: run as root',
  EPERM: 'this user may not create it: run as root, or create it for this user by "ip tuntap add"',
  EBUSY: 'another program has it open, or another interface has its name: choose another name',
  EINVAL:
    "an interface of this name isn't a TAP device, or has one queue where several are asked for",
}

/** Bits of `setOffloads`. */
const TAKES_BLANK = 1
const TAKES_GSO4 = 2
const TAKES_GSO6 = 4

export class TapQueue {
  /** The interface's name. */
  readonly name: string
  /** Bytes of memory that `receive` needs. */
  readonly receiveBytes: number
  readonly #tap: TapDevice

  /** @throws LinkError that says what to do */
  constructor(open: NonNullable<TapCalls['openTapDevice']>, o: Omit<TapQueueOptions, 'frames'>) {
    try {
      this.#tap = open({ ...o, frames: TAP_BATCH })
      this.name = this.#tap.device.name()
    } catch (error) {
      throw tapError(o.name, error, advice[errnoOf(error)])
    }
    this.receiveBytes = TAP_BATCH * this.#tap.device.place
  }

  /** Changes the interface. @throws LinkError if the kernel refuses that */
  change(work: (device: TapDevice['device']) => void): void {
    try {
      work(this.#tap.device)
    } catch (error) {
      throw tapError(this.name, error, undefined)
    }
  }

  /** Says which incomplete frames the kernel may deliver; it completes the others. */
  setOffloads({ checksum4, checksum6, gso4, gso6 }: Offloads): void {
    const blank = checksum4 || checksum6 ? TAKES_BLANK : 0
    this.change((device) =>
      device.setOffloads(blank && blank | (gso4 ? TAKES_GSO4 : 0) | (gso6 ? TAKES_GSO6 : 0)),
    )
  }

  /** Sends `count` frames, TAP_BATCH at most; returns how many the kernel took. */
  send(frames: Frames, first: number, count: number): number {
    const { columns, write } = this.#tap
    for (let i = 0; i < count; i++) {
      const from = first + i
      columns.start[i] = frames.start[from] ?? 0
      columns.length[i] = frames.length[from] ?? 0
      const checksum = frames.checksum[from] ?? 0
      columns.checksum[i] = checksum
      if (checksum === Checksum.BLANK) {
        columns.checksumStart[i] = frames.checksumStart[from] ?? 0
        columns.checksumOffset[i] = frames.checksumOffset[from] ?? 0
      }
      const gso = frames.gso[from] ?? 0
      columns.gso[i] = gso
      if (gso !== Gso.NONE) {
        columns.gsoSize[i] = frames.gsoSize[from] ?? 0
        columns.headers[i] = frames.headers[from] ?? 0
      }
    }
    return write(frames.memory, count)
  }

  /**
   * Replaces the frames of a batch by up to TAP_BATCH that have come. They lie in `memory`.
   * @returns how many came; the batch lacks those that are too long
   */
  receive(into: Frames, memory: Uint8Array): number {
    const { columns, read } = this.#tap
    const count = read(memory, TAP_BATCH)
    into.reset(memory)
    for (let i = 0; i < count; i++) {
      const length = columns.length[i] ?? 0
      if (length < MIN_FRAME || length > MAX_FRAME) continue
      const at = into.count++
      const start = columns.start[i] ?? 0
      into.start[at] = start
      into.length[at] = length
      into.checksum[at] = columns.checksum[i] ?? 0
      const checksumStart = columns.checksumStart[i] ?? 0
      into.checksumStart[at] = checksumStart
      into.checksumOffset[at] = columns.checksumOffset[i] ?? 0
      const gso = columns.gso[i] ?? 0
      into.gso[at] = gso
      if (gso === Gso.NONE) continue
      into.gsoSize[at] = columns.gsoSize[i] ?? 0
      // The kernel's own value is a hint, which may be larger.
      const words = (memory[start + checksumStart + TCP_DATA_OFFSET] ?? 0) >>> 4
      into.headers[at] = checksumStart + 4 * words
    }
    return count
  }

  /** Sets whether `onReady` is called for frames. */
  watch(on: boolean): void {
    this.#tap.device.watch(on)
  }

  close(): void {
    this.#tap.device.close()
  }
}

function tapError(name: string, cause: unknown, advice: string | undefined): LinkError {
  const message = cause instanceof Error ? cause.message : String(cause)
  return new LinkError(
    `tap "${name}": ${advice ?? message}`,
    { name, errno: errnoOf(cause) },
    { cause },
  )
}

const errnoOf = (cause: unknown): string =>
  cause instanceof Error && 'code' in cause && typeof cause.code === 'string' ? cause.code : 'EIO'
