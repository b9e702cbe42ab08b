/**
 * A control ring that a test's guest fills with requests of its own, and the backend that answers
 * them. `ask` serves the ring at once, without an event.
 */
import { MessageWork, openGuestTurn } from '@xenkit/backend'
import { ArenaShare, GrantTable } from '@xenkit/grant'
import { type GrantShare, type GuestTurn, Owner } from '@xenkit/hypervisor'
import { BackRing, FrontRing } from '@xenkit/ring'
import { type ArenaLimits, type SimDomain, type SimMachine, createMachine } from '@xenkit/sim'
import { netif } from '@xenkit/wire'
import { type OpenedRing, attachRing, openRing } from '@xenkit/xenbus'
import { ControlRing } from '../../src/backend/control-ring.ts'
import { HashConfig } from '../../src/backend/hash-config.ts'
import { StaticGrefs } from '../../src/backend/static-grefs.ts'

const { slotSize } = netif.ctrl

export interface Answer {
  readonly status: number
  readonly data: number
}

/** The backend's parts. */
interface Back {
  readonly share: ArenaShare
  readonly grants: GrantTable
  readonly guestTurn: GuestTurn
  readonly control: ControlRing
  readonly hash: HashConfig
  readonly staticGrefs: readonly StaticGrefs[]
  /** Serves the ring. */
  turn(): void
  settle(): Promise<void>
}

export class ControlRig implements AsyncDisposable {
  readonly machine: SimMachine
  readonly dom0: SimDomain
  readonly guest: SimDomain
  readonly front: OpenedRing<FrontRing>
  readonly back: Back
  /** A page of the guest for keys, mappings and lists. */
  readonly page: GrantShare
  readonly failures: unknown[]
  readonly #owner: Owner
  /** The guest's pages, which it can't take back while they are mapped. */
  readonly #granted = new Owner()
  #id = 0

  private constructor(
    o: Pick<ControlRig, 'machine' | 'dom0' | 'guest' | 'front' | 'back' | 'failures'>,
    owner: Owner,
  ) {
    this.machine = o.machine
    this.dom0 = o.dom0
    this.guest = o.guest
    this.front = o.front
    this.back = o.back
    this.failures = o.failures
    this.#owner = owner
    this.page = this.grant(1)
  }

  static async open(o: { queues?: number; arena?: ArenaLimits } = {}): Promise<ControlRig> {
    const machine = createMachine()
    const dom0 = machine.createDomain(o.arena ? { arena: o.arena } : {})
    const guest = machine.createDomain()
    const owner = new Owner()
    const failures: unknown[] = []
    const front = owner.own(
      openRing(guest, { domid: dom0.domid, init: (bytes) => FrontRing.init({ bytes, slotSize }) }),
    )
    const failed = (error: unknown): void => void failures.push(error)
    const back = await openBack(dom0, guest.domid, { front, owner, queues: o.queues ?? 2, failed })
    return new ControlRig({ machine, dom0, guest, front, back, failures }, owner)
  }

  /** Grants pages of the guest's. */
  grant(pages: number, writable = true): GrantShare {
    return this.#granted.own(this.guest.grants.share({ domid: this.dom0.domid, pages, writable }))
  }

  /** Asks, and returns the answer: the test fails if there isn't exactly one. */
  ask(type: number, ...data: readonly number[]): Answer {
    const id = this.#id++ & 0xffff
    const { ring, bytes } = this.front
    const words = [data[0] ?? 0, data[1] ?? 0, data[2] ?? 0]
    netif.ctrl.request.encode({ id, type, data: words }, bytes, ring.reserveRequest())
    ring.publish()
    this.back.turn()
    const count = ring.drain(ring.size)
    const slot = new Uint8Array(ring.image.slice(ring.messageAt(0)), 0, slotSize)
    const answer = netif.ctrl.response.decode(slot)
    if (count !== 1 || answer.id !== id || answer.type !== type) {
      throw new Error(`${count} answers, the first to ${answer.id}: ${answer.type}`)
    }
    return { status: answer.status, data: answer.data }
  }

  /** Puts the list into the guest's page. */
  list(entries: readonly { ref: number; flags?: number; status?: number }[]): void {
    for (const [i, { ref, flags = 0, status = 0xeeee }] of entries.entries()) {
      netif.gref.encode({ ref, flags, status }, this.page.bytes, i * netif.gref.size)
    }
  }

  /** Statuses of the list in the guest's page. */
  statuses(entries: number): number[] {
    return Array.from(
      { length: entries },
      (_, i) => netif.gref.decode(this.page.bytes, i * netif.gref.size).status,
    )
  }

  get pageRef(): number {
    return this.page.grefs[0] ?? -1
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.back.settle()
    this.#owner.close()
    this.#granted.close()
    this.machine.assertQuiescent()
    await this.machine[Symbol.asyncDispose]()
  }
}

async function openBack(
  dom0: SimDomain,
  domid: number,
  o: {
    readonly front: OpenedRing<FrontRing>
    readonly owner: Owner
    readonly queues: number
    readonly failed: (error: unknown) => void
  },
): Promise<Back> {
  const { front, owner, queues, failed } = o
  const share = owner.own(new ArenaShare(dom0.arena, domid))
  const grants = owner.own(new GrantTable(dom0.grants, share))
  const { ring, channel } = owner.own(
    await attachRing(dom0, {
      domid,
      grefs: [Number(front.nodes['ring-ref'])],
      port: Number(front.nodes['event-channel']),
      grants,
      attach: (bytes) => BackRing.attach({ bytes, slotSize }),
    }),
  )
  const guestTurn = owner.own(openGuestTurn(dom0.loop, domid))
  const hash = new HashConfig(queues)
  const staticGrefs = Array.from({ length: queues }, () =>
    owner.own(new StaticGrefs({ domid, grants, share, failed })),
  )
  const control = owner.own(new ControlRing({ domid, grants, share, guestTurn, hash, staticGrefs }))
  const { server } = new MessageWork(
    { ring, channel, guestTurn, loop: dom0.loop, failed },
    { messages: netif.ctrl, answer: (request) => control.answer(request) },
  )
  return {
    share,
    grants,
    guestTurn,
    control,
    hash,
    staticGrefs,
    turn: () => server.turn(),
    settle: () => server.settle({ frontend: 'gone' }),
  }
}
