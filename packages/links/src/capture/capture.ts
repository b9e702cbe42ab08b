/** `openCapture` and `captureLink`: write the frames of cards to a pcapng file or stream. */
import { createWriteStream, constants, openSync, statSync } from 'node:fs'
import { once } from 'node:events'
import { Socket } from 'node:net'
import type { Writable } from 'node:stream'
import { setTimeout as wait } from 'node:timers/promises'
import { type Frames, type Link, MAX_FRAME } from '@xenkit/frames'
import { expectInteger } from '@xenkit/hypervisor'
import { type FrameDirection, layerOn } from '../layer.ts'
import {
  STATISTICS_BYTES,
  type Timestamp,
  interfaceDescription,
  interfaceStatistics,
  packetBlockBytes,
  sectionHeader,
  timestampOf,
  writePacketBlock,
} from './pcapng.ts'
import { type Chunk, MIN_BUFFER_BYTES, Spool } from './spool.ts'

const DEFAULT_BUFFER_BYTES = 4 * 1024 ** 2
const MAX_BUFFER_BYTES = 1024 ** 3
/** Interval of looking for a named pipe's reader. */
const READER_POLL_MS = 100

/** Options of `openCapture`. */
export interface CaptureOptions {
  /** Most bytes of a frame that are captured, 1..65535, default 65535. */
  readonly snaplen?: number
  /**
   * Most bytes that wait for a slow reader or disk, default 4 MiB, at least 256 KiB. Frames that
   * find no room aren't captured, and are counted in the capture.
   */
  readonly bufferBytes?: number
  /**
   * Called when the stream fails, as when Wireshark is closed. Nothing is captured from then on.
   */
  readonly onError?: (error: Error) => void
  /** Ends the wait for a named pipe's reader. */
  readonly signal?: AbortSignal
}

/** A capture: a pcapng section with an interface for each card. Closing it ends the stream. */
export class Capture implements AsyncDisposable {
  readonly #snaplen: number
  readonly #spool: Spool
  readonly #interfaces = new Map<string, CapturedInterface>()
  #described = 0
  #closing: Promise<void> | undefined

  /** @param sink stream that takes bytes. The capture ends it. */
  constructor(sink: Writable, o: CaptureOptions = {}) {
    const { snaplen = MAX_FRAME, bufferBytes = DEFAULT_BUFFER_BYTES, onError } = o
    expectInteger('snaplen', snaplen, 1, MAX_FRAME)
    expectInteger('bufferBytes', bufferBytes, MIN_BUFFER_BYTES, MAX_BUFFER_BYTES)
    this.#snaplen = snaplen
    this.#spool = new Spool(sink, bufferBytes, onError)
    this.#spool.add(sectionHeader())
  }

  /** Returns the interface of this name, which is the same for each card of this name. */
  interface(name: string): CapturedInterface {
    const known = this.#interfaces.get(name)
    if (known) return known
    const describe = (): number | undefined =>
      this.#spool.add(interfaceDescription(name, this.#snaplen)) ? this.#described++ : undefined
    const added = new CapturedInterface(this.#spool, this.#snaplen, describe)
    this.#interfaces.set(name, added)
    return added
  }

  /**
   * Writes what is buffered and the interfaces' statistics, and ends the stream.
   * @throws Error that the stream failed with, or if it takes nothing for 5 s
   */
  close(): Promise<void> {
    const statistics = [...this.#interfaces.values()].map((it) => it.statistics())
    return (this.#closing ??= this.#spool.close(Buffer.concat(statistics)))
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close()
  }
}

/** An interface of a capture. */
export class CapturedInterface {
  /** Frames that came. */
  received = 0
  /** Frames of these that weren't captured, as the stream was too slow. */
  dropped = 0
  readonly #spool: Spool
  readonly #snaplen: number
  readonly #describe: () => number | undefined
  #id: number | undefined
  /** `dropped` in the last block of statistics. */
  #reported = 0

  /** @param describe writes the interface's block: returns its number, or undefined without room */
  constructor(spool: Spool, snaplen: number, describe: () => number | undefined) {
    this.#spool = spool
    this.#snaplen = snaplen
    this.#describe = describe
  }

  /** Captures frames. Incomplete frames are captured as they are. */
  record(frames: Frames, direction: FrameDirection): void {
    const time = now()
    this.received += frames.count
    const interfaceId = (this.#id ??= this.#describe())
    if (interfaceId === undefined) {
      this.dropped += frames.count
      return
    }
    const origin = { interfaceId, time, direction }
    for (let i = 0; i < frames.count; i++) {
      const captured = Math.min(frames.length[i] ?? 0, this.#snaplen)
      const bytes = packetBlockBytes(captured)
      // If frames are missing before this one, the capture says so.
      const more = this.dropped === this.#reported ? 0 : STATISTICS_BYTES
      const chunk = this.#spool.take(more + bytes)
      if (!chunk) {
        this.dropped++
        continue
      }
      if (more > 0) this.#report(chunk, chunk.used - bytes - more)
      writePacketBlock(chunk, chunk.used - bytes, origin, frames, i, captured)
    }
  }

  /** Returns the block of statistics; empty if the interface has no block. */
  statistics(): Uint8Array {
    return this.#id === undefined ? new Uint8Array(0) : interfaceStatistics(this.#id, now(), this)
  }

  #report(chunk: Chunk, at: number): void {
    chunk.bytes.set(this.statistics(), at)
    this.#reported = this.dropped
  }
}

/** The time, finer than `Date.now`. */
const now = (): Timestamp => timestampOf(performance.timeOrigin + performance.now())

/**
 * Opens a capture.
 * @param to path of a file, or of a named pipe, which is waited for until somebody reads it; or a
 * stream
 */
export async function openCapture(to: string | Writable, o: CaptureOptions = {}): Promise<Capture> {
  return new Capture(typeof to === 'string' ? await openSink(to, o.signal) : to, o)
}

/** Captured frames may hold anybody's secrets, so only the owner may read the file. */
const FILE_MODE = 0o600

async function openSink(path: string, signal: AbortSignal | undefined): Promise<Writable> {
  if (statSync(path, { throwIfNoEntry: false })?.isFIFO()) return openPipe(path, signal)
  const file = createWriteStream(path, { mode: FILE_MODE })
  await once(file, 'open')
  return file
}

/** Opens a named pipe. A blocking `open` would occupy a thread of the pool until a reader comes. */
async function openPipe(path: string, signal: AbortSignal | undefined): Promise<Writable> {
  for (;;) {
    signal?.throwIfAborted()
    try {
      const fd = openSync(path, constants.O_WRONLY | constants.O_NONBLOCK)
      return new Socket({ fd, readable: false, writable: true })
    } catch (error) {
      if (!(error instanceof Error && 'code' in error && error.code === 'ENXIO')) throw error
    }
    await wait(READER_POLL_MS, undefined, { signal })
  }
}

/**
 * Captures the frames of cards on their way to and from a link. Each card is an interface of its
 * name. What its guest sends is inbound, as seen from the backend's interface.
 * @param direction frames to capture; default: both directions
 */
export function captureLink(base: Link, capture: Capture, direction?: FrameDirection): Link {
  return layerOn(base, ({ name }) => {
    const card = capture.interface(name)
    return {
      pass(frames, next, way) {
        if (direction === undefined || direction === way) card.record(frames, way)
        next.send(frames)
      },
    }
  })
}
