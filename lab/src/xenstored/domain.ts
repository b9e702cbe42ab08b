/** A domain as xenstored finds it on a machine without Xen, and the domain's own side of it. */
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
 * A domain exists from `create` to `remove`. xenstored takes notice of it when domain 0 introduces
 * it, with any port, and the domain can connect from then on. It isn't told when xenstored lets go
 * of it.
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

  /** @param directory of this domain, which is made */
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

  /** One connection at a time: it is the page. */
  async connect(receiver: ByteStreamReceiver): Promise<ByteStream> {
    if (this.#removed) {
      throw new HypervisorClosedError('the domain is no more', {}, { cause: this.#removed })
    }
    this.#stream = new RingStream(this.#page, receiver, () => this.#channel.notify())
    return this.#stream
  }

  /** It is no more: xenstored finds that out when it looks. */
  async remove(reason: Error): Promise<void> {
    this.#removed = reason
    this.#channel.close()
    closeSync(this.#page)
    await rm(this.#directory, { recursive: true })
    this.#stream?.lost(reason)
  }
}
