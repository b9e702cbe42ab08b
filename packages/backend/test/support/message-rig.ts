/**
 * A machine whose domain 0 serves devices with one ring of small messages, and guests that put what
 * they like on their rings.
 */
import { connectMessages, serveDevices } from '@xenkit/backend'
import type { Hypervisor } from '@xenkit/hypervisor'
import { FrontRing } from '@xenkit/ring'
import { type SimDomain, createMachine } from '@xenkit/sim'
import { cstruct, padding, ringMessages, sring, u16, u32, u8 } from '@xenkit/wire'
import {
  type BackendEvent,
  FrontendDevice,
  type OpenedRing,
  openRing,
  plugDevice,
} from '@xenkit/xenbus'
import { type XenstoreClient, openXenstore } from '@xenkit/xenstore-client'
import { Crowd } from './crowd.ts'
import { until } from './until.ts'

const TYPE = 'toy'

/** A response has padding, and leaves 8 bytes of its slot to the longer request. */
export const messages = ringMessages({
  request: cstruct('toy_request', { id: u32, kind: u8, _pad: padding(3), value: u32, more: u32 }),
  response: cstruct('toy_response', { id: u32, kind: u8, _pad: padding(1), status: u16 }),
})

export type ToyRequest = ReturnType<typeof messages.request.decode>
export type ToyResponse = Parameters<typeof messages.response.encode>[0]
export type Answer = (request: ToyRequest) => ToyResponse | Promise<ToyResponse>

/** A guest's end of a device. */
export class ToyFront {
  readonly guest: SimDomain
  readonly device: FrontendDevice
  readonly opened: OpenedRing<FrontRing>
  readonly #xs: XenstoreClient
  #nextId = 0

  private constructor(
    guest: SimDomain,
    xs: XenstoreClient,
    device: FrontendDevice,
    opened: OpenedRing<FrontRing>,
  ) {
    this.guest = guest
    this.#xs = xs
    this.device = device
    this.opened = opened
  }

  /** Plugs a device into the guest with domain 0's rights, and connects it. */
  static async open(xs: XenstoreClient, guest: SimDomain): Promise<ToyFront> {
    const { domid } = guest
    const address = { type: TYPE, devid: 0, frontendDomid: domid, backendDomid: 0 }
    await plugDevice(xs, { ...address, frontend: {}, backend: {} })
    const own = await openXenstore(guest.xenstore)
    const device = await FrontendDevice.open(own, { domid, type: TYPE, devid: 0 })
    const opened = openRing(guest, {
      domid: 0,
      init: (bytes) => FrontRing.init({ bytes, slotSize: messages.slotSize }),
    })
    await device.publish(opened.nodes)
    await device.connected()
    return new ToyFront(guest, own, device, opened)
  }

  /** Puts requests on the ring whose padding is full of 0xee. */
  put(count = 1, kind = 0): void {
    const { ring, bytes } = this.opened
    for (let i = 0; i < count; i++) {
      const rest = { kind, _pad: [0xee, 0xee, 0xee], value: 0xeeee_eeee, more: 0xeeee_eeee }
      messages.request.encode({ id: this.#nextId++, ...rest }, bytes, ring.reserveRequest())
    }
  }

  send(): void {
    this.opened.ring.publish()
    this.opened.channel.notify()
  }

  /** Takes what was answered: whole slots. */
  take(): Uint8Array[] {
    const { ring } = this.opened
    const slots: Uint8Array[] = []
    do {
      for (let count = ring.drain(ring.size); count > 0; count = ring.drain(ring.size)) {
        for (let i = 0; i < count; i++) {
          slots.push(new Uint8Array(ring.image.slice(ring.messageAt(i)), 0, ring.slotSize))
        }
      }
    } while (ring.finalCheck())
    return slots
  }

  async answers(count: number): Promise<Uint8Array[]> {
    const slots: Uint8Array[] = []
    await until(() => slots.push(...this.take()) >= count)
    return slots
  }

  /** Sets a word of the ring's header. */
  poke(index: 'req_prod' | 'rsp_event', value: number): void {
    const { buffer, byteOffset } = this.opened.bytes
    Atomics.store(new Uint32Array(buffer, byteOffset, 4), sring.at[index] / 4, value)
  }

  async close(): Promise<void> {
    await this.device.close()
    this.release()
  }

  /** Releases everything, once the device is closed. */
  release(): void {
    this.opened.close()
    this.#xs.close()
  }
}

/** Serves the devices until the signal aborts. */
export const serveToys = (
  hv: Hypervisor,
  o: {
    readonly signal: AbortSignal
    readonly answer: Answer
    readonly onEvent?: (event: BackendEvent) => void
  },
): Promise<void> =>
  serveDevices(hv, o, {
    type: TYPE,
    driver: (context) => ({
      offer: async () => ({}),
      connect: (device) => connectMessages(hv, device, { ...context, messages, answer: o.answer }),
    }),
    onEvent: (event) => o.onEvent?.(event),
  })

export interface MessageRig extends AsyncDisposable {
  readonly events: BackendEvent[]
  readonly crowd: Crowd
  /** Plugs a device into a new guest, and connects it. */
  open(): Promise<ToyFront>
  /** Ends the service, and waits for it. */
  stop(): Promise<void>
}

export async function messageRig(answer: Answer): Promise<MessageRig> {
  const machine = createMachine()
  const dom0 = machine.createDomain()
  const xs = await openXenstore(dom0.xenstore)
  const abort = new AbortController()
  const events: BackendEvent[] = []
  const crowd = new Crowd()
  const served = serveToys(crowd.through(dom0), {
    signal: abort.signal,
    answer,
    onEvent: (event) => void events.push(event),
  })
  const stop = async (): Promise<void> => {
    abort.abort()
    await served
  }
  return {
    events,
    crowd,
    stop,
    open: () => ToyFront.open(xs, machine.createDomain()),
    async [Symbol.asyncDispose]() {
      await stop()
      xs.close()
      await machine[Symbol.asyncDispose]()
    },
  }
}
