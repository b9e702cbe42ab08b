/**
 * Bytes received during the handshake, taken by count. After the handshake, `replies.ts` parses the
 * stream.
 */
import { NbdProtocolError } from './nbd-error.ts'

/** Most bytes held: more than any message of the handshake, or than a server may send early. */
const MAX_BYTES = 64 * 1024

export class Inbox {
  #held = new Uint8Array(0)
  #wanted = 0
  #resolve: ((bytes: Uint8Array) => void) | undefined

  get length(): number {
    return this.#held.length
  }

  push(bytes: Uint8Array): void {
    const held = new Uint8Array(this.#held.length + bytes.length)
    held.set(this.#held)
    held.set(bytes, this.#held.length)
    this.#held = held
    expectRoom(held.length)
    this.#give()
  }

  /**
   * Takes the next `count` bytes, one call at a time. The promise never settles if they don't
   * arrive.
   */
  async take(count: number): Promise<Uint8Array> {
    expectRoom(count)
    return new Promise((resolve) => {
      this.#wanted = count
      this.#resolve = resolve
      this.#give()
    })
  }

  #give(): void {
    if (!this.#resolve || this.#held.length < this.#wanted) return
    this.#resolve(this.#held.slice(0, this.#wanted))
    this.#held = this.#held.slice(this.#wanted)
    this.#resolve = undefined
  }
}

function expectRoom(bytes: number): void {
  if (bytes > MAX_BYTES) {
    throw new NbdProtocolError(
      `nbd handshake: a message of ${bytes} bytes, expected up to ${MAX_BYTES}`,
      { field: 'length', value: bytes },
    )
  }
}
