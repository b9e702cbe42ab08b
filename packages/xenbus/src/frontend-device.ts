/** Opens and closes a device for its frontend. backend-state.ts shows the states of both sides. */
import { NegotiationError, failuresOf, firstOf } from '@xenkit/hypervisor'
import { XenbusState } from '@xenkit/wire'
import type { XenstoreClient, XenstoreReader, XenstoreView } from '@xenkit/xenstore-client'
import { frontendPath } from './device-path.ts'
import { lenient, ofOtherEnd, writeNodes } from './node-access.ts'
import { backendDeviceNodes, frontendDeviceNodes, type NodeValues } from './nodes.ts'

/** A device, as its frontend's domain names it. */
export interface FrontendAddress {
  /** The domain that this program runs in. */
  readonly domid: number
  readonly type: string
  readonly devid: number
}

interface Waiting {
  /** Ends the wait. */
  readonly signal?: AbortSignal
}

type PublishedState = typeof XenbusState.Initialised | typeof XenbusState.Connected

/** States in which a backend is closing the device; undefined means that its directory is gone. */
const LEAVING = [XenbusState.Closing, XenbusState.Closed, undefined] as const

/**
 * A device on the frontend's side, from one opening to the next `close`. `open` finds the backend
 * and waits until it advertises the device. `publish` writes where the rings are, and `connected`
 * waits until the backend uses them. After `close`, pages that were granted to the backend may be
 * revoked.
 *
 * Call `open` again, and publish new rings, after `close`, after a restart of the backend, and
 * after this domain was restored or migrated. The backend may be another one then.
 */
export class FrontendDevice {
  /** The frontend's directory. */
  readonly path: string
  readonly backendPath: string
  readonly backendDomid: number
  readonly #xs: XenstoreClient
  /** Whether `connected` has resolved: the backend then uses the published rings. */
  #isConnected = false

  private constructor(xs: XenstoreClient, path: string, backendPath: string, backendDomid: number) {
    this.#xs = xs
    this.path = path
    this.backendPath = backendPath
    this.backendDomid = backendDomid
  }

  /**
   * Waits until the toolstack has plugged the device and the backend advertises its features. If an
   * earlier program left the device open, closes it first, so that the backend unmaps the old
   * rings.
   * @throws NegotiationError for a malformed node
   * @throws XenstoreError, XenstoreClosedError when xenstored refuses, or the connection is lost
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
   * Publishes the rings' nodes, then a state that tells the backend that they are ready.
   * @param state default Initialised; Connected for a network card, which doesn't wait for its
   *   backend
   */
  async publish(nodes: NodeValues, state: PublishedState = XenbusState.Initialised): Promise<void> {
    await this.#update((view) => writeNodes(view, this.path, nodes))
    await this.#switchState(state)
  }

  /**
   * Waits until the backend is connected, then writes Connected.
   * @throws NegotiationError if the backend closes instead, or is removed
   * @throws errors as `open`
   */
  async connected(o: Waiting = {}): Promise<void> {
    await this.#backendReaches(XenbusState.Connected, o)
    await this.#switchState(XenbusState.Connected)
    this.#isConnected = true
  }

  /**
   * Changes nodes of a connected device, and waits until the backend uses the new values. Only a
   * network card's backend allows that. Linux's stays in the state Reconfigured afterwards, so a
   * later call doesn't wait for it.
   * @throws NegotiationError, XenstoreError, XenstoreClosedError as `connected`
   */
  async reconfigure(nodes: NodeValues, o: Waiting = {}): Promise<void> {
    await this.#update((view) => writeNodes(view, this.path, nodes))
    await this.#switchState(XenbusState.Reconfiguring)
    await this.#backendReaches(XenbusState.Reconfigured, o)
    await this.#switchState(XenbusState.Connected)
  }

  /**
   * Resolves when the backend closes the device or is gone. After `connected` it also resolves when
   * the backend advertises again, since that has restarted and lost the rings.
   * @throws errors as `open`
   */
  async backendClosing(o: Waiting = {}): Promise<void> {
    const restarted = this.#isConnected ? [XenbusState.Initialising, XenbusState.InitWait] : []
    await this.#backendState([...LEAVING, ...restarted], o)
  }

  /**
   * Closes the device with the backend's consent: when it resolves, the backend has unmapped the
   * rings, and pages that were granted to it may be revoked.
   * @throws the signal's reason when that aborts: this side is Closed then, the backend may not be
   * @throws errors as `open`
   */
  async close(o: Waiting = {}): Promise<void> {
    this.#isConnected = false
    // Don't write Closing after Closed: it makes a Linux backend leave Closed. In Closing it would
    // ignore the Initialising that `open` writes next, and the device would never connect.
    if ((await this.#state(this.#xs)) !== XenbusState.Closed) await this.#leave(o)
    await this.#backendState([XenbusState.Closed, undefined], o)
  }

  async #backendReaches(wanted: XenbusState, o: Waiting): Promise<void> {
    const state = await this.#backendState([wanted, ...LEAVING], o)
    if (state === wanted) return
    throw new NegotiationError(
      `the backend at "${this.backendPath}" closed: see its domain's error nodes`,
      {
        node: `${this.backendPath}/state`,
        value: state === undefined ? state : String(state),
        expected: String(wanted),
      },
    )
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

  /**
   * Closes the device if an earlier program left it open, and waits until the backend advertises
   * it.
   */
  async #begin(o: Waiting): Promise<void> {
    if ((await this.#state(this.#xs)) !== XenbusState.Initialising) {
      // The backend's InitWait may still refer to the old rings, so it has to close them first.
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

  /**
   * Writes the frontend's state, unless the node has it already: the watch would fire for nothing.
   */
  #switchState(state: XenbusState): Promise<void> {
    return this.#update(async (view, current) => {
      if (current !== state) await frontendDeviceNodes.write(view, this.path, { state })
    })
  }

  /**
   * Changes the frontend's directory. If the toolstack removed it, or plugged the device again with
   * another backend, this does nothing.
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

  /** Reads the frontend's own state. */
  #state(view: XenstoreReader): Promise<XenbusState | undefined> {
    return lenient(frontendDeviceNodes.readNode(view, this.path, 'state'), XenbusState.Unknown)
  }
}
