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
  readonly signal?: AbortSignal
}

/**
 * The frontend's half of a device's life, called in this order: `open` finds the backend and waits
 * until it has advertised, `publish` says where the rings are, `connected` waits for the backend;
 * later `close`, after which what was granted to the backend may be taken back.
 */
export class FrontendDevice {
  /** Own directory. */
  readonly path: string
  readonly backendPath: string
  readonly backendDomid: number
  readonly #xs: XenstoreClient

  private constructor(xs: XenstoreClient, path: string, backendPath: string, backendDomid: number) {
    this.#xs = xs
    this.path = path
    this.backendPath = backendPath
    this.backendDomid = backendDomid
  }

  /**
   * Waits until the toolstack has made the device, and its backend has advertised what it offers.
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

  /** Publishes where the rings are. */
  async publish(nodes: NodeValues): Promise<void> {
    await this.#update((view) => writeNodes(view, this.path, nodes))
    await this.#switchState(XenbusState.Initialised)
  }

  /**
   * Waits until the backend is connected. @throws NegotiationError if it closes instead, or is
   * removed.
   */
  async connected(o: Waiting = {}): Promise<void> {
    const state = await this.#backendState(
      [XenbusState.Connected, XenbusState.Closing, XenbusState.Closed, undefined],
      o,
    )
    if (state !== XenbusState.Connected) {
      const node = `${this.backendPath}/state`
      throw new NegotiationError(
        `the backend at "${this.backendPath}" closed instead of connecting: see its domain's error nodes`,
        { node, value: state === undefined ? state : String(state), expected: '4' },
      )
    }
    await this.#switchState(XenbusState.Connected)
  }

  /** Resolves when the backend wants the device closed, or is gone. */
  async backendClosing(o: Waiting = {}): Promise<void> {
    await this.#backendState([XenbusState.Closing, XenbusState.Closed, undefined], o)
  }

  /**
   * Closes this side, with the backend's consent: when it returns the backend has let go of the
   * rings, and what was granted to it may be taken back.
   * @throws the signal's reason when that aborts: this side is Closed then, the backend may not be
   */
  async close(o: Waiting = {}): Promise<void> {
    await this.#switchState(XenbusState.Closing)
    try {
      await this.#backendState([XenbusState.Closing, XenbusState.Closed, undefined], o)
    } catch (error) {
      const closed = o.signal?.aborted ? [this.#switchState(XenbusState.Closed)] : []
      throw firstOf([error, ...(await failuresOf(closed))])
    }
    await this.#switchState(XenbusState.Closed)
    await this.#backendState([XenbusState.Closed, undefined], o)
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

  #switchState(state: XenbusState): Promise<void> {
    return this.#update((view) => frontendDeviceNodes.write(view, this.path, { state }))
  }

  /** Changes the own directory. Never brings back one that the toolstack has removed. */
  #update(write: (view: XenstoreView) => Promise<void>): Promise<void> {
    return this.#xs.transaction(async (view) => {
      if ((await this.#state(view)) !== undefined) await write(view)
    })
  }

  /** Its own: nobody else is to write there. */
  #state(view: XenstoreReader): Promise<XenbusState | undefined> {
    return lenient(frontendDeviceNodes.readNode(view, this.path, 'state'), XenbusState.Unknown)
  }
}
