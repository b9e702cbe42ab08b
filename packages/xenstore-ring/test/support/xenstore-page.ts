/** A xenstore page for tests. The test controls the page's event channel and its store. */
import type { ByteStreamReceiver, EvtchnBinding } from '@xenkit/hypervisor'
import { XENSTORE_SERVER_FEATURE, xenstoreDomainInterface } from '@xenkit/wire'
import { type StoreConnection, serveXenstoreRing, connectXenstoreRing } from '@xenkit/xenstore-ring'

const { at } = xenstoreDomainInterface
/** The features that `serveXenstoreRing` supports. */
export const RING_FEATURES = XENSTORE_SERVER_FEATURE.RECONNECTION | XENSTORE_SERVER_FEATURE.ERROR

export type Word =
  | 'req_cons'
  | 'req_prod'
  | 'rsp_cons'
  | 'rsp_prod'
  | 'server_features'
  | 'connection'
  | 'error'

/**
 * Creates a page with all four ring indices at `index`. Unused pages before and after it would show
 * stray writes.
 */
export function xenstorePage({ index = 0 } = {}): Uint8Array {
  const page = new Uint8Array(new SharedArrayBuffer(3 * 4096), 4096, 4096)
  for (const word of ['req_cons', 'req_prod', 'rsp_cons', 'rsp_prod'] as const) {
    setWord(page, word, index)
  }
  return page
}

const viewOf = (page: Uint8Array): DataView =>
  new DataView(page.buffer, page.byteOffset, page.byteLength)
export const word = (page: Uint8Array, name: Word): number => viewOf(page).getUint32(at[name], true)
export const setWord = (page: Uint8Array, name: Word, value: number): void =>
  viewOf(page).setUint32(at[name], value, true)
export const offsetOf = (name: Word): number => at[name]

/** One end of an event channel that behaves as in Xen and /dev/xen/evtchn. */
export class Port {
  pending = false
  masked = false
  notifications = 0
  closed = false
  /** If true, every call on the port throws. */
  broken = false
  /** Called before a notification is sent. */
  onNotify = (): void => {}
  #onEvent: (() => void) | undefined
  #remote: Port | undefined

  static pair(): [Port, Port] {
    const [one, other] = [new Port(), new Port()]
    one.#remote = other
    other.#remote = one
    return [one, other]
  }

  readonly bind = (onEvent: () => void): EvtchnBinding => {
    this.#onEvent = onEvent
    this.closed = this.masked = false
    const close = (): void => {
      this.closed = true
    }
    return {
      port: 7,
      notify: () => {
        if (this.closed) throw new Error('notify of a closed port')
        if (this.broken) throw new Error('the channel is broken')
        this.notifications++
        this.onNotify()
        if (this.#remote) this.#remote.pending = true
      },
      unmask: () => {
        if (this.closed) throw new Error('unmask of a closed port')
        if (!this.masked) throw new Error('unmask of a port that is not masked')
        if (this.broken) throw new Error('the channel is broken')
        this.masked = false
      },
      close,
      [Symbol.dispose]: close,
    }
  }

  /**
   * Delivers the port's pending event, as the event loop would.
   * @returns whether an event was delivered
   */
  deliver(): boolean {
    if (!this.pending || this.masked || this.closed) return false
    this.pending = false
    this.masked = true
    this.#onEvent?.()
    return true
  }
}

export const turnOfLoop = (): Promise<void> => new Promise((resolve) => setImmediate(resolve))

/**
 * Delivers events, and those that they cause, until the ports stay quiet. A masked port isn't
 * quiet: its owner still has a turn to run.
 */
export async function settle(...ports: readonly Port[]): Promise<void> {
  for (let quiet = 0, rounds = 0; quiet < 3; quiet++) {
    for (const port of ports) {
      if (port.deliver() || (port.masked && !port.closed && !port.broken)) quiet = -1
    }
    if (rounds++ === 5000) throw new Error('no end of turns')
    await turnOfLoop()
  }
}

export class FakeStore {
  readonly connections: FakeConnection[] = []
  /** If true, the store refuses new connections. */
  refuses = false

  readonly connect = (receiver: ByteStreamReceiver): FakeConnection => {
    if (this.refuses) throw new Error('not introduced')
    const connection = new FakeConnection(receiver)
    this.connections.push(connection)
    return connection
  }

  /**
   * Returns the newest connection to the store.
   * @throws if there was none
   */
  get last(): FakeConnection {
    const last = this.connections.at(-1)
    if (!last) throw new Error('no connection')
    return last
  }
}

export class FakeConnection implements StoreConnection {
  readonly receiver: ByteStreamReceiver
  readonly received: number[] = []
  readonly #held: Uint8Array[] = []
  paused = false
  closed = false

  constructor(receiver: ByteStreamReceiver) {
    this.receiver = receiver
  }

  write(bytes: Uint8Array): void {
    this.received.push(...bytes)
  }

  send(bytes: Uint8Array): void {
    if (this.closed) return
    if (this.paused) this.#held.push(bytes)
    else this.receiver.data(bytes)
  }

  pause(): void {
    this.paused = true
  }

  resume(): void {
    this.paused = false
    setImmediate(() => {
      while (!this.paused && this.#held.length > 0) {
        this.send(this.#held.shift() ?? new Uint8Array())
      }
    })
  }

  close(): void {
    this.closed = true
  }
}

/** Records the bytes that a domain receives from xenstored. */
export class FakeReceiver implements ByteStreamReceiver {
  readonly received: number[] = []
  readonly reasons: Error[] = []
  onData: (bytes: Uint8Array) => void = () => {}

  data(bytes: Uint8Array): void {
    this.received.push(...bytes)
    this.onData(bytes)
  }

  closed(reason: Error): void {
    this.reasons.push(reason)
  }
}

/**
 * Serves a page with `serveXenstoreRing`, and returns a function with which a domain connects to
 * it.
 */
export function served(o: { index?: number; features?: number } = {}) {
  const page = xenstorePage(o)
  const [domainPort, storePort] = Port.pair()
  const store = new FakeStore()
  const { features = RING_FEATURES } = o
  const { bind } = storePort
  const server = serveXenstoreRing({ page, bind, features, connect: store.connect })
  return {
    page,
    domainPort,
    storePort,
    store,
    server,
    connect: () => {
      const receiver = new FakeReceiver()
      return { receiver, stream: connectXenstoreRing({ page, bind: domainPort.bind }, receiver) }
    },
    settle: () => settle(domainPort, storePort),
  }
}

/** Connects a domain's end to a page on which the test itself acts as xenstored. */
export function unserved(o: { index?: number; features?: number } = {}) {
  const page = xenstorePage(o)
  setWord(page, 'server_features', o.features ?? 0)
  const [domainPort, storePort] = Port.pair()
  const connect = () => {
    const receiver = new FakeReceiver()
    return { receiver, stream: connectXenstoreRing({ page, bind: domainPort.bind }, receiver) }
  }
  /** Notifies the domain that the test, as xenstored, has changed the page. */
  const wake = async (): Promise<void> => {
    domainPort.pending = true
    await settle(domainPort)
  }
  return { page, domainPort, storePort, connect, wake }
}

/**
 * Returns `length` bytes of a stream, in which each byte depends on its position. The period is
 * longer than a ring.
 */
export const long = (length: number, first = 0): Uint8Array =>
  Uint8Array.from({ length }, (_, i) => ((first + i) * 167 + ((first + i) >>> 8)) & 0xff)
export const text = (bytes: readonly number[]): string => String.fromCharCode(...bytes)
export const bytesOf = (string: string): Uint8Array =>
  Uint8Array.from(string, (char) => char.charCodeAt(0))
