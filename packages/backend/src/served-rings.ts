/** The rings of a connected device, and all that they use until the device is closed. */
import type { EventChannel } from '@xenkit/evtchn'
import { ArenaShare, GrantTable } from '@xenkit/grant'
import {
  type Arena,
  closeEach,
  failuresOf,
  firstOf,
  type GuestTurn,
  type Hypervisor,
  Owner,
} from '@xenkit/hypervisor'
import type { CloseOptions } from '@xenkit/xenbus'
import { unlessAborted } from './abandoned.ts'
import { openGuestTurn } from './guest-turn.ts'

/** A server of one ring, as `RingServer` is. */
export interface ServedRing {
  /** Serves the ring. Called on every event of its channel, and once at first. */
  turn(): void
  /** Number of messages whose memory is in use: see `RingServer.inFlight`. */
  readonly inFlight: number
  /** Completes what is in flight, and stops. */
  settle(how: CloseOptions): Promise<void>
  /** Stops at once. */
  abandon(): void
}

/** Options of `ServedRings`. */
export interface ServedRingsOptions {
  /** The guest, 0..32751. */
  readonly domid: number
  /** Aborts when waiting for rows in flight ends. */
  readonly abandon: AbortSignal
  /** Called with errors of events, and with those that occur after `close` has settled. */
  readonly failed: (error: unknown) => void
}

/**
 * The rings of one device, with all that was opened for them. Add each server with `add`; add what
 * is opened for it to `rings` or `memory`. `close` closes everything in the right order.
 */
export class ServedRings {
  readonly #servers: ServedRing[] = []
  /** Servers by channel: two rings of a network card may share one. */
  readonly #byChannel = new Map<EventChannel, ServedRing[]>()
  /** Ports and mappings of rings. Closed once all servers have settled. */
  readonly rings = new Owner()
  /** Memory that rows in flight use. Closed once no row is in flight. */
  readonly memory = new Owner()
  /** The device's share of the arena. */
  readonly share: ArenaShare
  /** Maps the guest's pages and opens copiers for them. */
  readonly grants: GrantTable
  /** The guest's turn, which it has for all its devices on this event loop. */
  readonly guestTurn: GuestTurn
  /** Resolves once everything is closed: with `close`, or later if rows were abandoned. */
  readonly released: Promise<void>
  readonly #arena: Arena
  readonly #o: ServedRingsOptions
  #tellReleased = (): void => {}

  constructor(hv: Hypervisor, o: ServedRingsOptions) {
    this.#arena = hv.arena
    this.#o = o
    this.share = this.memory.own(new ArenaShare(hv.arena, o.domid))
    this.grants = this.memory.own(new GrantTable(hv.grants, this.share))
    this.guestTurn = this.rings.own(openGuestTurn(hv.loop, o.domid))
    this.released = new Promise((resolve) => (this.#tellReleased = resolve))
  }

  /**
   * Gives the server a turn on each event of the channel from now on, after the turns of servers
   * that were added with the same channel before.
   */
  add(server: ServedRing, channel: EventChannel): void {
    this.#servers.push(server)
    const sharers = this.#byChannel.get(channel)
    if (sharers) {
      sharers.push(server)
      return
    }
    const servers = [server]
    this.#byChannel.set(channel, servers)
    channel.handle(() => {
      for (const each of servers) each.turn()
    }, this.#o.failed)
  }

  /**
   * Starts serving. The first messages, and their event, may have come before the port was bound.
   */
  begin(): void {
    for (const server of this.#servers) server.turn()
  }

  /** Closes everything because of `error`. @returns the error to throw */
  async closeAfter(error: unknown): Promise<unknown> {
    return firstOf([error, ...(await failuresOf([this.close({ frontend: 'gone' })]))])
  }

  /**
   * Completes the rows in flight, then closes everything. If `abandon` aborts, rows still in flight
   * keep their memory until they complete, even if the hypervisor is closed meanwhile.
   * @throws the reason of `abandon` if rows were abandoned, else the first error
   */
  async close(how: CloseOptions): Promise<void> {
    const settling = failuresOf(this.#servers.map((server) => server.settle(how)))
    const abandoned = await this.#untilAbandoned(settling)
    const errors = abandoned ? [abandoned.reason] : await settling
    errors.push(...closeEach([this.rings]))
    if (abandoned) this.#releaseLate(settling)
    else errors.push(...this.#release())
    if (errors.length > 0) throw firstOf(errors)
  }

  /**
   * Waits until the servers have settled or `abandon` aborts. @returns the reason if rows are
   * abandoned
   */
  async #untilAbandoned(
    settling: Promise<unknown>,
  ): Promise<{ readonly reason: unknown } | undefined> {
    try {
      await unlessAborted(settling, this.#o.abandon)
      return undefined
    } catch (reason) {
      for (const server of this.#servers) server.abandon()
      return this.#servers.some(({ inFlight }) => inFlight > 0) ? { reason } : undefined
    }
  }

  #release(): unknown[] {
    const errors = closeEach([this.memory])
    this.#tellReleased()
    return errors
  }

  /**
   * Releases the memory of abandoned rows once they complete: until then a store may still access
   * it.
   */
  #releaseLate(settling: Promise<unknown[]>): void {
    const hold = this.#arena.hold()
    void settling.then((failures) => {
      const errors = [...failures, ...this.#release()]
      hold[Symbol.dispose]()
      if (errors.length > 0) this.#o.failed(firstOf(errors))
    })
  }
}
