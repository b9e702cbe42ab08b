/**
 * A simulated domain for a xenstored that runs without Xen, and the domain's own side of its
 * connection.
 */
import { closeSync, openSync } from 'node:fs'
import { mkdir, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import {
  type ByteStream,
  type ByteStreamReceiver,
  HypervisorClosedError,
  type XenstorePort,
} from '@xenkit/hypervisor'
import { EventChannel } from './event-channel.ts'
import { RingStream } from './ring-stream.ts'

const PAGE_SIZE = 4096

/**
 * A domain exists from `create` to `remove`. When domain 0 introduces it, with any port, xenstored
 * learns of it and the domain can connect. It isn't told when xenstored releases it.
 */
export class Domain implements XenstorePort {
  readonly #directory: string
  readonly #page: number
  readonly #channel: EventChannel
  #stream: RingStream | undefined
  #removed: Error | undefined

  private constructor(directory: string, channel: EventChannel) {
    this.#directory = directory
    this.#channel = channel
    this.#page = openSync(join(directory, 'ring'), 'r+')
  }

  /** @param directory the domain's directory, which this creates */
  static async create(directory: string, onEvent: () => void = () => {}): Promise<Domain> {
    await mkdir(directory)
    await writeFile(join(directory, 'ring'), new Uint8Array(PAGE_SIZE))
    const channel = await EventChannel.open(join(directory, 'evtchn'), () => {
      onEvent()
      domain.#stream?.onEvent()
    })
    const domain = new Domain(directory, channel)
    return domain
  }

  /** Opens a connection; the domain can have only one, because all would share its ring page. */
  async connect(receiver: ByteStreamReceiver): Promise<ByteStream> {
    if (this.#removed) {
      throw new HypervisorClosedError('the domain is no more', {}, { cause: this.#removed })
    }
    this.#stream = new RingStream(this.#page, receiver, () => this.#channel.notify())
    return this.#stream
  }

  /** Removes the domain. xenstored notices when it next checks which domains exist. */
  async remove(reason: Error): Promise<void> {
    this.#removed = reason
    this.#channel.close()
    closeSync(this.#page)
    await rm(this.#directory, { recursive: true })
    this.#stream?.lost(reason)
  }
}
