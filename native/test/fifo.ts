/**
 * A fifo stands in for a Xen device on machines without Xen. It can be polled and read, and bytes
 * written to it come back. Its ioctls fail, so no port can be bound.
 */
import { execFileSync } from 'node:child_process'
import { closeSync, constants, mkdtempSync, openSync, rmSync, writeSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

export class Fifo implements Disposable {
  readonly #directory = mkdtempSync(join(tmpdir(), 'xenkit-'))
  readonly path = join(this.#directory, 'device')
  readonly #fd: number

  constructor() {
    execFileSync('mkfifo', [this.path])
    this.#fd = openSync(this.path, constants.O_RDWR | constants.O_NONBLOCK)
  }

  /** Sends bytes, as if the device had them to read. */
  send(bytes: Uint8Array): void {
    writeSync(this.#fd, bytes)
  }

  /** Sends port numbers, as /dev/xen/evtchn does. */
  sendPorts(...ports: readonly number[]): void {
    this.send(new Uint8Array(Uint32Array.from(ports).buffer))
  }

  [Symbol.dispose](): void {
    closeSync(this.#fd)
    rmSync(this.#directory, { recursive: true })
  }
}

/** Resolves once `condition` holds. If it never does, the test's timeout ends the wait. */
export async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((resolve) => setTimeout(resolve, 1))
}
