/**
 * A machine whose domain 0 serves network cards, all plugged into a link that keeps what it gets.
 */
import { ALL_OFFLOADS, type Card, type Frames, type Link, type PluggedLink } from '@xenkit/frames'
import { type SimDomain, type SimMachine, createMachine } from '@xenkit/sim'
import { type XenstoreClient, openXenstore } from '@xenkit/xenstore-client'
import {
  type ServeVifOptions,
  type VifAddress,
  type VifEvent,
  plugVif,
  serveVif,
} from '../../src/index.ts'

/** A frame as the link got it. */
export interface LinkFrame {
  readonly bytes: Uint8Array
  readonly checksum: number
  readonly gso: number
  readonly gsoSize: number
}

/** The link's end of one card. */
export class KeepingEnd implements PluggedLink {
  readonly offloads = ALL_OFFLOADS
  readonly card: Card
  readonly got: LinkFrame[] = []
  /** What the card said of its carrier. */
  readonly carriers: boolean[] = []

  constructor(card: Card) {
    this.card = card
  }

  send(frames: Frames): void {
    for (let i = 0; i < frames.count; i++) {
      this.got.push({
        bytes: frames.bytes(i).slice(),
        checksum: frames.checksum[i] ?? 0,
        gso: frames.gso[i] ?? 0,
        gsoSize: frames.gsoSize[i] ?? 0,
      })
    }
  }

  carrier(up: boolean): void {
    this.carriers.push(up)
  }

  close(): void {}
}

/** Keeps the end of each card that was plugged in. */
export class KeepingLink implements Link {
  readonly ends: KeepingEnd[] = []

  plug(card: Card): PluggedLink {
    const end = new KeepingEnd(card)
    this.ends.push(end)
    return end
  }

  /** The end of the card that was plugged in last. */
  get end(): KeepingEnd {
    const end = this.ends.at(-1)
    if (!end) throw new Error('no card is plugged in')
    return end
  }
}

/** A machine, a guest with card 0, and the service, which `serve` starts. */
export class Served implements AsyncDisposable {
  readonly machine: SimMachine
  readonly dom0: SimDomain
  readonly guest: SimDomain
  readonly xs: XenstoreClient
  readonly link = new KeepingLink()
  readonly events: VifEvent[] = []
  #abort = new AbortController()
  readonly #checks = new Set<() => void>()
  #serving: Promise<void> = Promise.resolve()

  private constructor(o: Pick<Served, 'machine' | 'dom0' | 'guest'>, xs: XenstoreClient) {
    this.machine = o.machine
    this.dom0 = o.dom0
    this.guest = o.guest
    this.xs = xs
  }

  static async open(): Promise<Served> {
    const machine = createMachine()
    const [dom0, guest] = [machine.createDomain(), machine.createDomain()]
    const served = new Served({ machine, dom0, guest }, await openXenstore(dom0.xenstore))
    await served.plug()
    return served
  }

  /** Names the guest's card. */
  get address(): VifAddress {
    return { frontendDomid: this.guest.domid, backendDomid: this.dom0.domid, devid: 0 }
  }

  /** Plugs card 0 of a guest. */
  plug(guest: SimDomain = this.guest): Promise<void> {
    return plugVif(this.xs, { ...this.address, frontendDomid: guest.domid })
  }

  /** Starts the service, or another one after `stop`. */
  serve(o: Pick<ServeVifOptions, 'queues' | 'watch'> = {}): void {
    this.#abort = new AbortController()
    this.#serving = serveVif(this.dom0, {
      ...o,
      link: this.link,
      signal: this.#abort.signal,
      onEvent: (event) => {
        this.events.push(event)
        for (const check of this.#checks) check()
      },
    })
  }

  /** Path of a guest's card in the backend's domain. */
  path(guest: SimDomain = this.guest): string {
    return `/local/domain/${this.dom0.domid}/backend/vif/${guest.domid}/0`
  }

  /** Resolves with the first event of a kind, past or future. */
  event(kind: VifEvent['kind'], guest: SimDomain = this.guest): Promise<VifEvent> {
    return new Promise((resolve) => {
      const check = (): void => {
        const found = this.events.find(
          (event) => event.kind === kind && event.card.frontendDomid === guest.domid,
        )
        if (!found) return
        this.#checks.delete(check)
        resolve(found)
      }
      this.#checks.add(check)
      check()
    })
  }

  /** Waits until a node of the card has one of these values; `undefined` is an absent node. */
  async node(name: string, ...values: readonly (string | undefined)[]): Promise<void> {
    await this.xs.wait(async (view) => {
      const value = await view.readOptional(`${this.path()}/${name}`)
      return values.includes(value) || undefined
    })
  }

  /** Ends the service. */
  async stop(): Promise<void> {
    this.#abort.abort()
    await this.#serving
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop()
    this.xs.close()
    await this.machine[Symbol.asyncDispose]()
  }
}
