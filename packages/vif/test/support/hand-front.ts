/**
 * A network frontend written by hand: a table says what it writes to xenstore in which order, and
 * how it uses its rings. It shares no code with `openVif`, nor with the package ring.
 */
import type { EvtchnBinding, GrantShare } from '@xenkit/hypervisor'
import type { Offloads } from '@xenkit/frames'
import type { SimDomain } from '@xenkit/sim'
import { type XenstoreClient, openXenstore } from '@xenkit/xenstore-client'
import { HandRing } from './hand-ring.ts'

/** A node that is written: its name if the value is a ring's, else its name and value. */
export type Write = string | readonly [string, string]

/** When a frontend wants an event of a ring's responses. */
export type EventHabit =
  /** With the next response. */
  | 'next'
  /** When half of what is in flight is answered. */
  | 'half'
  /** It polls: rsp_event keeps its first value. */
  | 'never'

/** What a real frontend does. */
export interface FrontendTable {
  readonly name: string
  /** Nodes of the backend that it reads, which have to be there with InitWait. */
  readonly reads: readonly string[]
  /** Whether it writes Initialising again at first, to make the backend forget another driver. */
  readonly resets: boolean
  /** Whether it waits for the backend's InitWait before it writes. */
  readonly waits: boolean
  readonly queues: number
  readonly split: boolean
  /** What it writes, by transaction. */
  readonly writes: readonly (readonly Write[])[]
  /** Whether the last transaction writes Connected too; otherwise it is written afterwards. */
  readonly connectsInside: boolean
  readonly rx: {
    /** Pages that it posts. */
    readonly pages: number
    /** Free pages that it waits for before it posts them again. Default 1. */
    readonly batch?: number
    /** Whether it posts them first before its Connected, right after, or after the backend's. */
    readonly posted: 'before' | 'with' | 'after'
    /** Id of its nth request. Default: the number of the slot. */
    readonly id?: (n: number) => number
    readonly events: EventHabit
  }
  readonly tx: {
    readonly events: EventHabit
    /** First byte of data in each page. */
    readonly offset: number
    /** Most bytes of a slot. */
    readonly slotBytes: number
    /** An extra info that each frame has besides that of GSO. */
    readonly extra?: readonly number[]
    /** Extra infos of packets that aren't sent on, for the multicast filter. */
    readonly dummies?: readonly (readonly number[])[]
  }
  /** What it takes in received frames. */
  readonly takes: Offloads & { readonly sg: boolean }
  /**
   * States that it writes to close. It writes each, and waits until the backend has one of the
   * states beside it. None: its kernel never closes the card.
   */
  readonly closes: readonly (readonly [writes: number, waitsFor: readonly number[]])[]
}

/** A frame to send. */
export interface HandFrame {
  readonly bytes: Uint8Array
  /** Flags of its first slot. */
  readonly flags?: number
  /** Extra infos of 8 bytes; MORE flags are set here. */
  readonly extras?: readonly (readonly number[])[]
}

/** A received frame. */
export interface HandReceived {
  readonly bytes: Uint8Array
  readonly flags: number
  readonly extras: DataView[]
  /** Bytes in each of its data slots. */
  readonly slots: readonly number[]
}

const MORE_DATA = 4
const EXTRA_INFO = 8

/** Data pages of each queue for sending. */
const TX_PAGES = 64

class HandFrontQueue {
  readonly tx: HandRing
  readonly rx: HandRing
  readonly txPort: EvtchnBinding
  readonly rxPort: EvtchnBinding
  readonly rings: readonly [GrantShare, GrantShare]
  readonly received: HandReceived[] = []
  /** Answers to slots, in ring order; an id of undefined is an extra info's. */
  readonly answers: { readonly id: number | undefined; readonly status: number }[] = []
  readonly #table: FrontendTable
  readonly #rxPages: GrantShare
  readonly #txPages: GrantShare
  /** Page and id posted in each slot of the receive ring. */
  readonly #posted: { readonly page: number; readonly id: number }[] = []
  /** Pages that aren't posted. */
  readonly #free: number[]
  #requests = 0
  #nextPage = 0
  /** Ids in flight, in ring order; undefined for an extra info. */
  readonly #inFlight: (number | undefined)[] = []

  constructor(guest: SimDomain, domid: number, table: FrontendTable, onEvent: () => void) {
    const share = (pages: number, writable: boolean): GrantShare =>
      guest.grants.share({ domid, pages, writable })
    this.#table = table
    this.#free = Array.from({ length: table.rx.pages }, (_, page) => page)
    this.rings = [share(1, true), share(1, true)]
    this.tx = new HandRing('front', this.rings[0].bytes, 12)
    this.rx = new HandRing('front', this.rings[1].bytes, 8)
    this.#rxPages = share(table.rx.pages, true)
    this.#txPages = share(TX_PAGES, false)
    const bind = (): EvtchnBinding => {
      const binding = guest.evtchn.bindUnbound({ domid }, () => {
        this.work()
        binding.unmask()
        onEvent()
      })
      return binding
    }
    this.txPort = bind()
    this.rxPort = table.split ? bind() : this.txPort
  }

  /** Posts all free pages, if there are enough. */
  post(): void {
    if (this.#free.length < (this.#table.rx.batch ?? 1)) return
    for (const page of this.#free.splice(0)) this.#postPage(page)
    if (this.rx.push()) this.rxPort.notify()
  }

  /** Puts a frame on the ring, in as many slots as the frontend's habit makes it, and sends it. */
  send({ bytes, flags = 0, extras = [] }: HandFrame): void {
    const { offset, slotBytes } = this.#table.tx
    for (let at = 0; at < bytes.length; at += slotBytes) {
      const part = bytes.subarray(at, at + slotBytes)
      const page = this.#nextPage++ % TX_PAGES
      this.#txPages.bytes.set(part, page * 4096 + offset)
      const more = at + part.length < bytes.length ? MORE_DATA : 0
      const own = at === 0 ? flags | (extras.length > 0 ? EXTRA_INFO : 0) : 0
      const slot = this.tx.next()
      slot.setUint32(0, this.#txPages.grefs[page] ?? 0, true)
      slot.setUint16(4, offset, true)
      slot.setUint16(6, own | more, true)
      slot.setUint16(8, page, true)
      slot.setUint16(10, at === 0 ? bytes.length : part.length, true)
      this.#inFlight.push(page)
      if (at === 0) extras.forEach((extra, i) => this.#extra(extra, i + 1 < extras.length))
    }
    if (this.tx.push()) this.txPort.notify()
  }

  /** Takes what the backend has answered, and posts pages again. */
  work(): void {
    this.#takeAnswers()
    do {
      this.#takeFrames()
      this.post()
    } while (this.#arm(this.rx, this.#table.rx.events))
    this.#arm(this.tx, this.#table.tx.events)
    if (this.tx.available > 0 && this.#table.tx.events === 'next') this.#takeAnswers()
  }

  close(): void {
    for (const share of [...this.rings, this.#rxPages, this.#txPages]) share.close()
    for (const port of new Set([this.txPort, this.rxPort])) port.close()
  }

  #extra(bytes: readonly number[], more: boolean): void {
    const slot = this.tx.next()
    for (let i = 0; i < 8; i++) slot.setUint8(i, bytes[i] ?? 0)
    slot.setUint8(1, more ? 1 : 0)
    this.#inFlight.push(undefined)
  }

  #postPage(page: number): void {
    const index = this.rx.produced % this.rx.size
    const id = this.#table.rx.id?.(this.#requests++) ?? index
    const slot = this.rx.next()
    slot.setUint16(0, id, true)
    slot.setUint16(2, 0, true)
    slot.setUint32(4, this.#rxPages.grefs[page] ?? 0, true)
    this.#posted[index] = { page, id }
  }

  /** Every slot has one answer, in the order of the ring. */
  #takeAnswers(): void {
    while (this.tx.available > 0) {
      const { message } = this.tx.take()
      const status = message.getInt16(2, true)
      const sent = this.#inFlight.shift()
      const id = sent === undefined ? undefined : message.getUint16(0, true)
      if (id !== sent) throw new Error(`slot ${sent} was answered with id ${id}`)
      if ((status === 1) !== (sent === undefined)) throw new Error(`slot ${sent}: ${status}`)
      this.answers.push({ id, status })
    }
  }

  /** Takes whole frames. NetBSD drops a frame whose slots aren't all there at once. */
  #takeFrames(): void {
    while (this.rx.available > 0) {
      const parts: Uint8Array[] = []
      const extras: DataView[] = []
      let flags = 0
      let moreExtras = false
      for (let more = true; more || moreExtras;) {
        if (this.rx.available === 0) throw new Error('a frame was published in parts')
        const { message, index } = this.rx.take()
        const posted = this.#posted[index % this.rx.size]
        if (!posted) throw new Error('a response is in a slot without a request')
        if (moreExtras) {
          extras.push(message)
          moreExtras = (message.getUint8(1) & 1) !== 0
        } else {
          const own = message.getUint16(4, true)
          if (parts.length === 0) [flags, moreExtras] = [own, (own & EXTRA_INFO) !== 0]
          more = (own & MORE_DATA) !== 0
          parts.push(this.#dataOf(message, posted))
        }
        this.#free.push(posted.page)
      }
      const slots = parts.map(({ length }) => length)
      if (slots.length + extras.length > 18) throw new Error(`a frame took ${slots.length} slots`)
      this.received.push({ bytes: Buffer.concat(parts), flags: flags & ~MORE_DATA, extras, slots })
    }
  }

  #dataOf(message: DataView, { page, id }: { page: number; id: number }): Uint8Array {
    const answered = message.getUint16(0, true)
    if (answered !== id) throw new Error(`a response has id ${answered}, its request ${id}`)
    const [offset, status] = [message.getUint16(2, true), message.getInt16(6, true)]
    if (status < 0 || offset + status > 4096) throw new Error(`a response of status ${status}`)
    const start = page * 4096 + offset
    return this.#rxPages.bytes.slice(start, start + status)
  }

  #arm(ring: HandRing, habit: EventHabit): boolean {
    if (habit === 'never') return false
    const ahead = habit === 'half' ? ((ring.produced - ring.consumed) >>> 0) >>> 1 : 0
    return ring.arm(ahead)
  }
}

/** A frontend of card 0 of a guest. */
export class HandFront {
  readonly queues: HandFrontQueue[] = []
  readonly path: string
  readonly #guest: SimDomain
  readonly #table: FrontendTable
  readonly #xs: XenstoreClient
  readonly #checks = new Set<() => void>()
  #control: { readonly page: GrantShare; readonly port: EvtchnBinding } | undefined
  #backend = ''

  private constructor(guest: SimDomain, table: FrontendTable, xs: XenstoreClient) {
    this.#guest = guest
    this.#table = table
    this.#xs = xs
    this.path = `/local/domain/${guest.domid}/device/vif/0`
  }

  static async open(guest: SimDomain, table: FrontendTable): Promise<HandFront> {
    return new HandFront(guest, table, await openXenstore(guest.xenstore))
  }

  /** Does the handshake. */
  async connect(): Promise<void> {
    await this.publish()
    await this.backendState(4)
    if (this.#table.rx.posted === 'after') this.#post()
  }

  /** Does the handshake up to its own Connected. */
  async publish(): Promise<void> {
    const xs = this.#xs
    const table = this.#table
    this.#backend = await xs.read(`${this.path}/backend`)
    const domid = Number(await xs.read(`${this.path}/backend-id`))
    if (table.resets) await xs.write(`${this.path}/state`, '1')
    if (table.waits) await this.backendState(2)
    for (const name of table.reads) await xs.read(`${this.#backend}/${name}`)
    for (let i = 0; i < table.queues; i++) {
      const wake = (): void => {
        for (const check of this.#checks) check()
      }
      this.queues.push(new HandFrontQueue(this.#guest, domid, table, wake))
    }
    if (table.writes.flat().includes('ctrl-ring-ref')) this.#openControl(domid)
    if (table.rx.posted === 'before') this.#post()
    for (const [i, writes] of table.writes.entries()) {
      const inside = table.connectsInside && i + 1 === table.writes.length
      await xs.transaction(async (view) => {
        for (const write of writes) {
          const [name, value] = typeof write === 'string' ? [write, this.#valueOf(write)] : write
          await view.write(`${this.path}/${name}`, value)
        }
        if (inside) await view.write(`${this.path}/state`, '4')
      })
    }
    if (!table.connectsInside) await xs.write(`${this.path}/state`, '4')
    if (table.rx.posted === 'with') this.#post()
  }

  /** Waits until the backend has one of these states. */
  async backendState(...states: readonly number[]): Promise<void> {
    await this.#xs.wait(async (view) => {
      const state = await view.readOptional(`${this.#backend}/state`)
      return states.map(String).includes(state ?? '0') || undefined
    })
  }

  /**
   * Waits for a condition, which each event of the backend may make true. Or polls, as iPXE does.
   */
  async until(done: () => boolean): Promise<void> {
    if (this.#table.rx.events === 'never') {
      while (!done()) {
        for (const queue of this.queues) queue.work()
        await this.#xs.exists(this.path)
      }
      return
    }
    await new Promise<void>((resolve) => {
      const check = (): void => {
        if (!done()) return
        this.#checks.delete(check)
        resolve()
      }
      this.#checks.add(check)
      check()
    })
  }

  /** Closes as the table says. */
  async close(): Promise<void> {
    for (const [writes, waitsFor] of this.#table.closes) {
      await this.#xs.write(`${this.path}/state`, String(writes))
      await this.backendState(...waitsFor)
    }
  }

  /** Frees everything; the backend has to have unmapped the rings. */
  release(): void {
    for (const queue of this.queues) queue.close()
    this.#control?.page.close()
    this.#control?.port.close()
    this.#xs.close()
  }

  #post(): void {
    for (const queue of this.queues) queue.post()
  }

  #openControl(domid: number): void {
    const page = this.#guest.grants.share({ domid, pages: 1, writable: true })
    const port = this.#guest.evtchn.bindUnbound({ domid }, () => port.unmask())
    this.#control = { page, port }
    void new HandRing('front', page.bytes, 16)
  }

  /** Value of a ring's node. */
  #valueOf(name: string): string {
    const [, number = '0', node = name] = /^queue-(\d+)\/(.*)$/.exec(name) ?? []
    const queue = this.queues[Number(number)]
    const values: Readonly<Record<string, number | undefined>> = {
      'tx-ring-ref': queue?.rings[0].grefs[0],
      'rx-ring-ref': queue?.rings[1].grefs[0],
      'event-channel': queue?.txPort.port,
      'event-channel-tx': queue?.txPort.port,
      'event-channel-rx': queue?.rxPort.port,
      'ctrl-ring-ref': this.#control?.page.grefs[0],
      'event-channel-ctrl': this.#control?.port.port,
    }
    const value = values[node]
    if (value === undefined) throw new Error(`node "${name}" has no value`)
    return String(value)
  }
}
