/** A backend of a network card, written by hand from netif.h, that does what a test tells it. */
import type { EvtchnBinding, GrantMapping } from '@xenkit/hypervisor'
import { type SimDomain, type SimMachine, createMachine } from '@xenkit/sim'
import { plugDevice, unplugDevice } from '@xenkit/xenbus'
import { type XenstoreClient, openXenstore } from '@xenkit/xenstore-client'
import { HandRing } from './hand-ring.ts'

/** One slot of the transmit ring, as the frontend sent it. */
export interface SentSlot {
  readonly gref: number
  readonly offset: number
  readonly flags: number
  readonly id: number
  readonly size: number
  /** All 12 bytes, for an extra info. */
  readonly raw: DataView
}

/** One response to a posted page. */
export interface Received {
  /** Bytes that are copied into the page, at `offset`. */
  readonly data?: Uint8Array
  readonly offset?: number
  readonly flags?: number
  /** Default: the length of `data`. */
  readonly status?: number
  /** Default: that of the request. */
  readonly id?: number
  /** An extra info in the slot instead: its bytes. */
  readonly extra?: readonly number[]
}

/** A queue as the backend maps it. */
export class HandQueue {
  readonly tx: HandRing
  readonly rx: HandRing
  readonly ports: readonly [EvtchnBinding, EvtchnBinding]
  /** Events that arrived at each port. */
  readonly events = new Map<EvtchnBinding, number>()
  readonly #o: { readonly dom0: SimDomain; readonly guest: number }
  readonly #mappings: readonly GrantMapping[]

  constructor(
    o: { readonly dom0: SimDomain; readonly guest: number },
    nodes: { readonly tx: number; readonly rx: number; readonly txPort: number; rxPort: number },
    onEvent: () => void,
  ) {
    this.#o = o
    const map = (gref: number): GrantMapping =>
      o.dom0.grants.map([{ domid: o.guest, gref }], { writable: true })
    const [tx, rx] = [map(nodes.tx), map(nodes.rx)]
    this.#mappings = [tx, rx]
    this.tx = new HandRing('back', tx.bytes, 12)
    this.rx = new HandRing('back', rx.bytes, 8)
    const bind = (port: number): EvtchnBinding => {
      const binding = o.dom0.evtchn.bindInterdomain({ domid: o.guest, port }, () => {
        this.events.set(binding, (this.events.get(binding) ?? 0) + 1)
        binding.unmask()
        onEvent()
      })
      return binding
    }
    const txPort = bind(nodes.txPort)
    this.ports = [txPort, nodes.txPort === nodes.rxPort ? txPort : bind(nodes.rxPort)]
  }

  /** Takes all slots that the frontend has sent. */
  sent(): SentSlot[] {
    const slots: SentSlot[] = []
    while (this.tx.available > 0 || this.tx.arm()) {
      const { message: raw } = this.tx.take()
      slots.push({
        gref: raw.getUint32(0, true),
        offset: raw.getUint16(4, true),
        flags: raw.getUint16(6, true),
        id: raw.getUint16(8, true),
        size: raw.getUint16(10, true),
        raw,
      })
    }
    return slots
  }

  /** Copies a part of a page of the frontend, which has granted it read-only perhaps. */
  read(gref: number, offset: number, length: number): Uint8Array {
    const refs = [{ domid: this.#o.guest, gref }]
    using mapping = this.#o.dom0.grants.map(refs, { writable: false })
    return mapping.bytes.slice(offset, offset + length)
  }

  /** Answers transmit slots. An id of undefined answers an extra info. */
  answer(...answers: { readonly id?: number; readonly status: number }[]): void {
    for (const { id, status } of answers) {
      const slot = this.tx.next()
      if (id !== undefined) slot.setUint16(0, id, true)
      slot.setInt16(2, status, true)
    }
    if (this.tx.push()) this.ports[0].notify()
  }

  /** Sends responses, each to the next posted page. */
  receive(...responses: Received[]): void {
    for (const { data, extra, ...o } of responses) {
      if (this.rx.available === 0) throw new Error('the frontend has posted no page')
      const { message } = this.rx.take()
      const [id, gref] = [message.getUint16(0, true), message.getUint32(4, true)]
      if (data) {
        const refs = [{ domid: this.#o.guest, gref }]
        using mapping = this.#o.dom0.grants.map(refs, { writable: true })
        mapping.bytes.set(data, o.offset ?? 0)
      }
      const slot = this.rx.next()
      if (extra) for (let i = 0; i < 8; i++) slot.setUint8(i, extra[i] ?? 0)
      else {
        slot.setUint16(0, o.id ?? id, true)
        slot.setUint16(2, o.offset ?? 0, true)
        slot.setUint16(4, o.flags ?? 0, true)
        slot.setInt16(6, o.status ?? data?.length ?? 0, true)
      }
    }
    if (this.rx.push()) this.ports[1].notify()
  }

  close(): void {
    for (const mapping of this.#mappings) mapping.close()
    for (const port of new Set(this.ports)) port.close()
  }
}

/** A control request as the frontend sent it. */
export interface ControlRequest {
  readonly id: number
  readonly type: number
  readonly data: readonly number[]
}

/** Answers a control request; `page` copies a page of the guest. */
export type AnswerControl = (
  request: ControlRequest,
  page: (gref: number) => Uint8Array,
) => { readonly status: number; readonly data?: number }

/** The control ring as the backend maps it. It answers each request as the test says. */
export class HandControl {
  readonly #ring: HandRing
  readonly #mapping: GrantMapping
  readonly #port: EvtchnBinding

  constructor(
    { dom0, guest }: { readonly dom0: SimDomain; readonly guest: number },
    nodes: { readonly gref: number; readonly port: number },
    answer: (request: ControlRequest) => { readonly status: number; readonly data?: number },
  ) {
    this.#mapping = dom0.grants.map([{ domid: guest, gref: nodes.gref }], { writable: true })
    this.#ring = new HandRing('back', this.#mapping.bytes, 16)
    this.#port = dom0.evtchn.bindInterdomain({ domid: guest, port: nodes.port }, () => {
      while (this.#ring.available > 0 || this.#ring.arm()) this.#answer(answer)
      this.#port.unmask()
    })
  }

  close(): void {
    this.#mapping.close()
    this.#port.close()
  }

  #answer(answer: (request: ControlRequest) => { status: number; data?: number }): void {
    const { message } = this.#ring.take()
    const [id, type] = [message.getUint16(0, true), message.getUint16(2, true)]
    const { status, data = 0 } = answer({
      id,
      type,
      data: [4, 8, 12].map((at) => message.getUint32(at, true)),
    })
    const slot = this.#ring.next()
    slot.setUint16(0, id, true)
    slot.setUint16(2, type, true)
    slot.setUint32(4, status, true)
    slot.setUint32(8, data, true)
    if (this.#ring.push()) this.#port.notify()
  }
}

/** What the backend offers: nodes of its directory. */
export type Offer = Readonly<Record<string, string>>

/** The offer of Linux's netback. */
export const NETBACK_OFFER: Offer = {
  'feature-sg': '1',
  'feature-gso-tcpv4': '1',
  'feature-gso-tcpv6': '1',
  'feature-ipv6-csum-offload': '1',
  'feature-rx-copy': '1',
  'feature-xdp-headroom': '1',
  'feature-rx-flip': '0',
  'feature-multicast-control': '1',
  'feature-dynamic-multicast-control': '1',
  'feature-split-event-channels': '1',
  'multi-queue-max-queues': '4',
  'feature-ctrl-ring': '1',
}

/** A machine with a guest, and a backend written by hand in domain 0. */
export class HandBackend implements AsyncDisposable {
  readonly machine: SimMachine
  readonly dom0: SimDomain
  readonly guest: SimDomain
  readonly xs: XenstoreClient
  readonly queues: HandQueue[] = []
  /** Answers control requests. Default: NOT_SUPPORTED to all. */
  answerControl: AnswerControl = () => ({ status: 1 })
  #control: HandControl | undefined
  readonly #events = new Set<() => void>()

  private constructor(machine: SimMachine, xs: XenstoreClient, dom0: SimDomain, guest: SimDomain) {
    this.machine = machine
    this.dom0 = dom0
    this.guest = guest
    this.xs = xs
  }

  /** Plugs card 0 of the guest, and offers it. */
  static async open(offer: Offer = NETBACK_OFFER): Promise<HandBackend> {
    const machine = createMachine()
    const dom0 = machine.createDomain()
    const guest = machine.createDomain()
    const back = new HandBackend(machine, await openXenstore(dom0.xenstore), dom0, guest)
    const mac = { mac: '00:16:3e:01:02:03' }
    await plugDevice(back.xs, { ...back.#address, frontend: { ...mac, mtu: '9000' }, backend: mac })
    for (const [name, value] of Object.entries(offer)) await back.set(name, value)
    await back.state(2)
    return back
  }

  get #address() {
    const { dom0, guest } = this
    return { type: 'vif', backendDomid: dom0.domid, frontendDomid: guest.domid, devid: 0 } as const
  }

  get path(): string {
    return `/local/domain/${this.dom0.domid}/backend/vif/${this.guest.domid}/0`
  }

  get front(): string {
    return `/local/domain/${this.guest.domid}/device/vif/0`
  }

  /** The first queue. */
  get queue(): HandQueue {
    const [queue] = this.queues
    if (!queue) throw new Error('the backend is not connected')
    return queue
  }

  set(name: string, value: string): Promise<void> {
    return this.xs.write(`${this.path}/${name}`, value)
  }

  state(state: number): Promise<void> {
    return this.set('state', String(state))
  }

  /** Waits until the frontend has a state. */
  async frontState(...states: number[]): Promise<void> {
    await this.xs.wait(async (view) => {
      const state = await view.readOptional(`${this.front}/state`)
      return states.some((wanted) => String(wanted) === state) || undefined
    })
  }

  /** Reads a node of the frontend; undefined if there is none. */
  node(name: string): Promise<string | undefined> {
    return this.xs.readOptional(`${this.front}/${name}`)
  }

  /** Waits for the frontend's Connected, maps its rings, and connects. */
  async connect(): Promise<void> {
    await this.frontState(4)
    const count = Number((await this.node('multi-queue-num-queues')) ?? 1)
    for (let i = 0; i < count; i++) {
      const at = count === 1 ? '' : `queue-${i}/`
      const number = async (name: string): Promise<number> => Number(await this.node(at + name))
      const split = (await this.node(`${at}event-channel-tx`)) !== undefined
      const nodes = {
        tx: await number('tx-ring-ref'),
        rx: await number('rx-ring-ref'),
        txPort: await number(split ? 'event-channel-tx' : 'event-channel'),
        rxPort: await number(split ? 'event-channel-rx' : 'event-channel'),
      }
      const wake = (): void => {
        for (const event of this.#events) event()
      }
      this.queues.push(new HandQueue({ dom0: this.dom0, guest: this.guest.domid }, nodes, wake))
    }
    const port = await this.node('event-channel-ctrl')
    if (port !== undefined) {
      const nodes = { gref: Number(await this.node('ctrl-ring-ref')), port: Number(port) }
      const o = { dom0: this.dom0, guest: this.guest.domid }
      this.#control = new HandControl(o, nodes, (request) =>
        this.answerControl(request, (gref) => this.page(gref)),
      )
    }
    await this.state(4)
  }

  /** Copies a page of the guest. */
  page(gref: number): Uint8Array {
    const refs = [{ domid: this.guest.domid, gref }]
    using mapping = this.dom0.grants.map(refs, { writable: false })
    return mapping.bytes.slice()
  }

  /** Releases the rings. */
  release(): void {
    for (const queue of this.queues.splice(0)) queue.close()
    this.#control?.close()
    this.#control = undefined
  }

  /** Waits until the frontend has posted so many pages that are still free. */
  async posted(count: number): Promise<void> {
    const { rx } = this.queue
    await this.until(() => {
      rx.arm(count - 1)
      return rx.available >= count
    })
  }

  /** Waits until `done` holds, checking at each event of the frontend. */
  async until(done: () => boolean): Promise<void> {
    if (done()) return
    await new Promise<void>((resolve) => {
      const check = (): void => {
        if (!done()) return
        this.#events.delete(check)
        resolve()
      }
      this.#events.add(check)
    })
  }

  /** Closes with the frontend, whichever began. */
  async close(): Promise<void> {
    await this.state(5)
    await this.frontState(5, 6)
    this.release()
    await this.state(6)
    await this.frontState(6)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await unplugDevice(this.xs, this.#address, { signal: AbortSignal.abort() })
    this.xs.close()
    await this.machine[Symbol.asyncDispose]()
  }
}
