/** The frontend's half of a device's life. backend-state.ts draws the order of both halves. */
import { NegotiationError, failuresOf, firstOf } from '@xenkit/hypervisor'
import { XenbusState } from '@xenkit/wire'
import type { XenstoreClient, XenstoreReader, XenstoreView } from '@xenkit/xenstore-client'
import { frontendPath } from './device-path.ts'
import { lenient, ofOtherEnd, writeNodes } from './node-access.ts'
import { backendDeviceNodes, frontendDeviceNodes, type NodeValues } from './nodes.ts'

export interface FrontendAddress {
  /** The domain that this program runs in. */
  readonly domid: number
  readonly type: string
  readonly devid: number
}

interface Waiting {
  /** Gives up the waiting. */
  readonly signal?: AbortSignal
}

type PublishedState = typeof XenbusState.Initialised | typeof XenbusState.Connected

/** States of a backend that lets go of the device; undefined for one that is gone. */
const LEAVING = [XenbusState.Closing, XenbusState.Closed, undefined] as const

/**
 * One life of a device, as its frontend leads it. `open` finds the backend and waits until it has
 * advertised, `publish` says where the rings are, `connected` waits for the backend to use them.
 * Later comes `close`, after which what was granted to the backend may be taken back.
 *
 * A device lives again by `open`: after `close`, when its backend closed or restarted, and when
 * this domain was restored or migrated, with another backend. The new life needs new rings.
 */
export class FrontendDevice {
  /** Own directory. */
  readonly path: string
  readonly backendPath: string
  readonly backendDomid: number
  readonly #xs: XenstoreClient
  /** The backend uses the rings that were published. */
  #isConnected = false

  private constructor(xs: XenstoreClient, path: string, backendPath: string, backendDomid: number) {
    this.#xs = xs
    this.path = path
    this.backendPath = backendPath
    this.backendDomid = backendDomid
  }

  /**
   * Waits until the toolstack has made the device and its backend has advertised what it offers. An
   * earlier life is closed first, so that its backend lets go of the rings.
   * @throws NegotiationError for nodes that make no sense
   * @throws XenstoreError, XenstoreClosedError when xenstored refuses, or this domain is over
   * @throws the signal's reason when that aborts
   */
  static async open(
    xs: XenstoreClient,
    address: FrontendAddress,
    o: Waiting = {},
  ): Promise<FrontendDevice> {
    const path = frontendPath({ ...address, frontendDomid: address.domid })
    const found = await xs.wait(async (view) => {
      const [backend, domid] = await Promise.all([
        frontendDeviceNodes.readNode(view, path, 'backend'),
        frontendDeviceNodes.readNode(view, path, 'backend-id'),
      ])
      return backend !== undefined && domid !== undefined ? { backend, domid } : undefined
    }, o)
    const device = new FrontendDevice(xs, path, found.backend, found.domid)
    await device.#begin(o)
    return device
  }

  /**
   * Publishes where the rings are, and that they are ready.
   * @param state Connected for a network card, which doesn't wait for its backend
   */
  async publish(nodes: NodeValues, state: PublishedState = XenbusState.Initialised): Promise<void> {
    await this.#update((view) => writeNodes(view, this.path, nodes))
    await this.#switchState(state)
  }

  /**
   * Waits until the backend is connected, then is connected itself.
   * @throws NegotiationError if the backend closes instead, or is removed
   * @throws errors as `open`
   */
  async connected(o: Waiting = {}): Promise<void> {
    const state = await this.#backendState([XenbusState.Connected, ...LEAVING], o)
    if (state !== XenbusState.Connected) {
      const node = `${this.backendPath}/state`
      throw new NegotiationError(
        `the backend at "${this.backendPath}" closed instead of connecting: see its domain's error nodes`,
        { node, value: state === undefined ? state : String(state), expected: '4' },
      )
    }
    await this.#switchState(XenbusState.Connected)
    this.#isConnected = true
  }

  /**
   * Resolves when the backend wants the device closed or is gone. Once `connected`, also when it
   * advertises anew: it has restarted and lost the rings. @throws errors as `open`
   */
  async backendClosing(o: Waiting = {}): Promise<void> {
    const restarted = this.#isConnected ? [XenbusState.Initialising, XenbusState.InitWait] : []
    await this.#backendState([...LEAVING, ...restarted], o)
  }

  /**
   * Closes this side, with the backend's consent: when it returns the backend has let go of the
   * rings, and what was granted to it may be taken back.
   * @throws the signal's reason when that aborts: this side is Closed then, the backend may not be
   * @throws errors as `open`
   */
  async close(o: Waiting = {}): Promise<void> {
    this.#isConnected = false
    // Closing, said again by a closed frontend, would have a backend of Linux's leave Closed. It
    // might be in Closing when it sees the Initialising that follows, which it then ignores.
    if ((await this.#state(this.#xs)) !== XenbusState.Closed) await this.#leave(o)
    await this.#backendState([XenbusState.Closed, undefined], o)
  }

  async #leave(o: Waiting): Promise<void> {
    await this.#switchState(XenbusState.Closing)
    try {
      await this.#backendState(LEAVING, o)
    } catch (error) {
      const closed = o.signal?.aborted ? [this.#switchState(XenbusState.Closed)] : []
      throw firstOf([error, ...(await failuresOf(closed))])
    }
    await this.#switchState(XenbusState.Closed)
  }

  /** Begins anew if this device had an earlier life, which may have ended without a word. */
  async #begin(o: Waiting): Promise<void> {
    if ((await this.#state(this.#xs)) !== XenbusState.Initialising) {
      // First of all the backend has to let go of the old rings: InitWait might be said of those.
      await this.close(o)
      await this.#switchState(XenbusState.Initialising)
    }
    await this.#backendState([XenbusState.InitWait], o)
  }

  #backendState(
    wanted: readonly (XenbusState | undefined)[],
    o: Waiting,
  ): Promise<XenbusState | undefined> {
    return this.#xs
      .wait(async (view) => {
        const state = await ofOtherEnd(backendDeviceNodes.readNode(view, this.backendPath, 'state'))
        return wanted.includes(state) ? { state } : undefined
      }, o)
      .then(({ state }) => state)
  }

  /** Writes no state twice: that is a backend's way to say that its nodes have changed. */
  #switchState(state: XenbusState): Promise<void> {
    return this.#update(async (view, current) => {
      if (current !== state) await frontendDeviceNodes.write(view, this.path, { state })
    })
  }

  /**
   * Changes the own directory. Never brings back one that the toolstack has removed, nor touches
   * one that it has made for another backend.
   */
  #update(write: (view: XenstoreView, state: XenbusState) => Promise<void>): Promise<void> {
    return this.#xs.transaction(async (view) => {
      const [state, backend] = await Promise.all([
        this.#state(view),
        lenient(frontendDeviceNodes.readNode(view, this.path, 'backend'), undefined),
      ])
      if (state !== undefined && backend === this.backendPath) await write(view, state)
    })
  }

  /** Own state; only this side and the toolstack write it. */
  #state(view: XenstoreReader): Promise<XenbusState | undefined> {
    return lenient(frontendDeviceNodes.readNode(view, this.path, 'state'), XenbusState.Unknown)
  }
}
