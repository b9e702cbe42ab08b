/** Sends requests on a card's control ring. Follows xen/include/public/io/netif.h. */
import {
  type GrantShare,
  PAGE_SIZE,
  RingProtocolError,
  XenError,
  expectInteger,
} from '@xenkit/hypervisor'
import type { FrontRing } from '@xenkit/ring'
import {
  XEN_NETIF_CTRL_HASH_ALGORITHM,
  XEN_NETIF_CTRL_STATUS,
  XEN_NETIF_CTRL_TYPE,
  netif,
} from '@xenkit/wire'
import type { OpenedRing } from '@xenkit/xenbus'

/** The backend refused a control request. `details.status` is a XEN_NETIF_CTRL_STATUS code. */
export class VifControlError extends XenError {
  constructor(type: number, status: number) {
    const [request, why] = [
      nameOf(XEN_NETIF_CTRL_TYPE, type),
      nameOf(XEN_NETIF_CTRL_STATUS, status),
    ]
    super('ERR_XEN_VIF_CONTROL', `the backend answered ${why} to ${request}`, { type, status })
  }
}

/** A control ring, and a writable page to pass keys and tables in. */
export interface OpenedControl {
  readonly ring: OpenedRing<FrontRing>
  readonly page: GrantShare
}

/** How a backend distributes received frames over the queues. */
export interface HashSettings {
  /** Kinds of packets to hash: bits of XEN_NETIF_CTRL_HASH_TYPE. 0: none. */
  readonly types: number
  /** Key of the Toeplitz hash; netback takes at most 40 bytes. */
  readonly key: Uint8Array
  /**
   * Queue of each hash, taken modulo the length; netback takes at most 128. Empty: the hash modulo
   * the number of queues.
   */
  readonly mapping: readonly number[]
}

interface Waiting {
  readonly type: number
  readonly resolve: (data: number) => void
  readonly reject: (error: unknown) => void
}

/** Sends control requests, one at a time: those with data share a granted page. */
export class ControlClient {
  readonly #ring: OpenedRing<FrontRing>
  readonly #page: GrantShare
  #id = 0
  #waiting: Waiting | undefined
  #failure: { readonly error: unknown } | undefined
  #last: Promise<unknown> = Promise.resolve()

  constructor({ ring, page }: OpenedControl) {
    this.#ring = ring
    this.#page = page
  }

  /**
   * Sets how the backend distributes frames over the queues. Undefined: in its own way.
   * @throws RangeError for a key or mapping that doesn't fit a page
   * @throws VifControlError if the backend refuses a part; the parts before it are set then
   */
  setHash(settings: HashSettings | undefined): Promise<void> {
    return this.#inTurn(async () => {
      expectInteger('key.length', settings?.key.length ?? 0, 0, PAGE_SIZE)
      expectInteger('mapping.length', settings?.mapping.length ?? 0, 0, PAGE_SIZE / 4)
      const { TOEPLITZ, NONE } = XEN_NETIF_CTRL_HASH_ALGORITHM
      await this.#request(
        XEN_NETIF_CTRL_TYPE.SET_HASH_ALGORITHM,
        settings === undefined ? NONE : TOEPLITZ,
      )
      if (settings === undefined) return
      const { types, key, mapping } = settings
      const [gref = 0] = this.#page.grefs
      await this.#request(XEN_NETIF_CTRL_TYPE.SET_HASH_FLAGS, types)
      this.#page.bytes.set(key)
      await this.#request(XEN_NETIF_CTRL_TYPE.SET_HASH_KEY, gref, key.length)
      await this.#request(XEN_NETIF_CTRL_TYPE.SET_HASH_MAPPING_SIZE, mapping.length)
      if (mapping.length === 0) return
      new Uint32Array(this.#page.bytes.buffer, this.#page.byteOffset).set(mapping)
      await this.#request(XEN_NETIF_CTRL_TYPE.SET_HASH_MAPPING, gref, mapping.length, 0)
    })
  }

  /**
   * Makes the backend keep pages of a queue mapped, so that it copies to and from them without the
   * hypervisor. It unmaps them when the card is closed.
   * @param grants lists of writable pages' grants, the most useful first
   * @returns how many of the lists the backend maps: it may support none, or fewer pages
   */
  addStaticGrants(queue: number, grants: readonly Uint32Array[]): Promise<number> {
    return this.#inTurn(async () => {
      const { GET_GREF_MAPPING_SIZE, ADD_GREF_MAPPING } = XEN_NETIF_CTRL_TYPE
      let added = 0
      try {
        let room = await this.#request(GET_GREF_MAPPING_SIZE, queue)
        for (const list of grants) {
          room -= list.length
          if (room < 0) break
          this.#writeGrants(list)
          const [gref = 0] = this.#page.grefs
          await this.#request(ADD_GREF_MAPPING, queue, gref, list.length)
          added++
        }
      } catch (error) {
        if (!(error instanceof VifControlError)) throw error
      }
      return added
    })
  }

  /**
   * Starts to handle events.
   * @param failed called with a RingProtocolError for a response to a request that isn't in flight
   */
  start(failed: (error: unknown) => void): void {
    this.#ring.channel.handle(() => this.#drain(), failed)
  }

  /** Rejects the request in flight, and all later ones. */
  fail(error: unknown): void {
    this.#failure ??= { error }
    this.#waiting?.reject(error)
    this.#waiting = undefined
  }

  #drain(): void {
    const { ring } = this.#ring
    const image = new Uint8Array(ring.image)
    do {
      for (let count = ring.drain(ring.size); count > 0; count = ring.drain(ring.size)) {
        for (let i = 0; i < count; i++) {
          const { id, type, status, data } = netif.ctrl.response.decode(image, ring.messageAt(i))
          const waiting = this.#waiting
          if (id !== this.#id || type !== waiting?.type) {
            const what = `a response of the control ring has id ${id} and type ${type}`
            const message = `${what}, which isn't in flight`
            throw new RingProtocolError(message, { indices: ring.indices() })
          }
          this.#waiting = undefined
          if (status === XEN_NETIF_CTRL_STATUS.SUCCESS) waiting.resolve(data)
          else waiting.reject(new VifControlError(type, status))
        }
      }
    } while (ring.finalCheck())
  }

  #request(type: number, ...data: readonly number[]): Promise<number> {
    const { ring, channel } = this.#ring
    return new Promise((resolve, reject) => {
      if (this.#failure) return reject(this.#failure.error)
      this.#id = (this.#id + 1) & 0xffff
      this.#waiting = { type, resolve, reject }
      const request = { id: this.#id, type, data: [0, 1, 2].map((i) => data[i] ?? 0) }
      netif.ctrl.request.encode(request, ring.bytes, ring.reserveRequest())
      if (ring.publish()) channel.notify()
    })
  }

  #writeGrants(grefs: Uint32Array): void {
    for (const [i, ref] of grefs.entries()) {
      netif.gref.encode({ ref, flags: 0, status: 0 }, this.#page.bytes, i * netif.gref.size)
    }
  }

  /** Runs an operation after the earlier ones have settled. */
  #inTurn<T>(operation: () => Promise<T>): Promise<T> {
    const result = this.#last.then(operation)
    this.#last = result.catch(() => {})
    return result
  }
}

/** Name of a code, for error texts. */
const nameOf = (codes: Readonly<Record<string, number>>, code: number): string =>
  Object.keys(codes).find((name) => codes[name] === code) ?? String(code)
