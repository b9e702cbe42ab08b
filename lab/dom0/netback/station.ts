/** A card of `openVif` as a party on the network: it sends frames and awaits frames. */
import { Checksum, Frames, Gso, type Vif } from 'xenkit'
import { soon } from '../tap.ts'
import type { Built } from './packets.ts'

/** A received frame with its columns. */
export interface Received {
  readonly bytes: Uint8Array
  readonly queue: number
  readonly checksum: number
  readonly gso: number
  readonly gsoSize: number
}

/** How a frame is incomplete; default: not at all. */
export interface Incomplete {
  /** Place of the checksum within the TCP or UDP header, if it is blank. */
  readonly checksumOffset: number
  readonly gso?: Gso
  readonly gsoSize?: number
}

/** Frames that have arrived, in order. Frames that nobody awaited are skipped. */
export class Party {
  readonly vif: Vif
  readonly #frames: Received[] = []
  readonly #listening: Disposable
  #wake: () => void = () => {}

  constructor(vif: Vif) {
    this.vif = vif
    this.#listening = vif.onFrames((frames, queue) => {
      for (let i = 0; i < frames.count; i++) {
        this.#frames.push({
          bytes: frames.bytes(i).slice(),
          queue,
          checksum: frames.checksum[i] ?? 0,
          gso: frames.gso[i] ?? 0,
          gsoSize: frames.gsoSize[i] ?? 0,
        })
      }
      this.#wake()
    })
  }

  /** Sends frames as one batch where the ring has room. */
  async send(frames: readonly Built[], o?: Incomplete, queue = 0): Promise<void> {
    const memory = new Uint8Array(frames.reduce((sum, { bytes }) => sum + bytes.length, 0))
    const batch = new Frames(frames.length)
    batch.reset(memory)
    let start = 0
    for (const { bytes, l4, headers } of frames) {
      memory.set(bytes, start)
      batch.add({
        start,
        length: bytes.length,
        ...(o && { checksum: Checksum.BLANK, checksumStart: l4, headers, ...o }),
      })
      start += bytes.length
    }
    for (let sent = 0; sent < batch.count;) {
      await soon('room in the ring', this.vif.writable(queue))
      sent += this.vif.send(batch, sent, queue)
    }
  }

  /** The next frame for which `wanted` returns a value, and that value. */
  async receive<T>(what: string, wanted: (frame: Received) => T | undefined): Promise<T> {
    for (;;) {
      for (let frame = this.#frames.shift(); frame; frame = this.#frames.shift()) {
        const found = wanted(frame)
        if (found !== undefined) return found
      }
      await soon(what, new Promise<void>((resolve) => (this.#wake = resolve)))
    }
  }

  async close(): Promise<void> {
    this.#listening[Symbol.dispose]()
    await this.vif.close()
  }
}
