/** A disk that answers when a test tells it to; see stalling-disk.mjs. */
import { type ChildProcess, fork, spawnSync } from 'node:child_process'
import { accessSync, constants, mkdtempSync, rmdirSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { until } from './fifo.ts'

/** Whether this process can mount the disk: it needs /dev/fuse, root, and the right to mount. */
export function canStall(): boolean {
  try {
    accessSync('/dev/fuse', constants.R_OK | constants.W_OK)
    // Root in a container may lack the right to mount.
    return spawnSync('unshare', ['--mount', 'true']).status === 0
  } catch {
    return false
  }
}

export class StallingDisk implements AsyncDisposable {
  readonly #directory = mkdtempSync(join(tmpdir(), 'xenkit-'))
  readonly #server: ChildProcess
  readonly path = join(this.#directory, 'image')
  /** Names of the requests that the disk has made wait. */
  readonly requests: string[] = []

  private constructor(from: number) {
    this.#server = fork(
      new URL('stalling-disk.mjs', import.meta.url),
      [this.#directory, String(from)],
      { execArgv: [] },
    )
  }

  /** @param from position in bytes from which on reads and writes stall */
  static async mount(from = 0): Promise<StallingDisk> {
    const disk = new StallingDisk(from)
    let mounted = false
    disk.#server.on('message', (message) => {
      if (message === 'mounted') mounted = true
      else disk.requests.push(String(message))
    })
    await until(() => mounted || disk.#server.exitCode !== null)
    if (!mounted) throw new Error('the stalling disk was not mounted')
    return disk
  }

  /** Makes the disk answer all waiting requests, and later ones immediately. */
  go(): void {
    this.#server.send('go')
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.kill()
    await until(() => this.#server.exitCode !== null || this.#server.signalCode !== null)
    spawnSync('umount', ['-l', this.#directory])
    rmdirSync(this.#directory)
  }
}
