/** One backend device: reads its two directories, decides by `backendStep`, and does what that says. */
import { XenError } from '@xenkit/hypervisor'
import { XenbusState } from '@xenkit/wire'
import type { XenstoreClient, XenstoreReader, XenstoreView } from '@xenkit/xenstore-client'
import { type BackendSnapshot, type BackendStep, backendStep } from './backend-state.ts'
import { type DeviceAddress, backendPath, errorPath, frontendPath } from './device-path.ts'
import { parseState, readOtherEnd, readState } from './state-node.ts'

/** Nodes of one directory, by name relative to it. */
export type NodeValues = Readonly<Record<string, string>>

/** A device as its driver sees it. */
export interface BackendDevice extends DeviceAddress {
  /** Own directory in xenstore: what the toolstack asks for. Policy comes from here. */
  readonly path: string
  /** The frontend's directory. Whatever is read from it is the guest's word: check it. */
  readonly frontendPath: string
  /**
   * Publishes changed nodes, together with the state once more, which has the frontend look again (as a
   * disk's new size is told). Does nothing unless the device is connected.
   * @param nodes asked for within the transaction, so that of several calls the last word counts
   */
  publish(nodes: () => NodeValues): Promise<void>
  /** The device is at fault: it is closed, with this as the reason, and no other device is touched. */
  fail(error: unknown): void
}

/** A driver's attachment to a frontend's rings. */
export interface BackendConnection {
  /** Published in one transaction before the state becomes Connected. */
  readonly nodes: NodeValues
  /** Settles what is in flight, then lets go of rings and ports. Called once. */
  close(): Promise<void>
}

/** What a device package has to add to the common life of a backend. */
export interface BackendDriver {
  /**
   * Asked for each new device. Returns the nodes to advertise with InitWait, or undefined to leave the
   * device to another backend; it may then be asked again, until another one has taken it. What it
   * throws closes the device for good.
   */
  offer(device: BackendDevice): Promise<NodeValues | undefined>
  /** Attaches to what the frontend published. What it throws closes the device, until the frontend begins anew. */
  connect(device: BackendDevice): Promise<BackendConnection>
  /** Called once after `offer`, unless that returned undefined: the device is gone for good, or another backend was faster to take it. */
  removed?(device: BackendDevice): void
}

export type BackendEvent =
  | { readonly kind: 'offered' | 'connected' | 'closed' | 'removed'; readonly device: BackendDevice }
  | { readonly kind: 'failed'; readonly device: BackendDevice; readonly error: unknown }

/**
 * Holds the id of the server that took the device. It goes with the directory, so that a server that
 * was busy meanwhile can tell a new device from the one that it took.
 */
const CLAIM_NODE = 'xenkit-claim'

/** Names the one server that may take the device; absent, any may. Written by `plugDevice`. */
export const RESERVATION_NODE = 'xenkit-reserved-for'

/** How long a frontend may take to let go of a device that its server is closing. */
const CLOSE_TIMEOUT_MS = 5_000

export interface ServedDeviceOptions {
  readonly xs: XenstoreClient
  readonly driver: BackendDriver
  readonly reservation: string | undefined
  readonly report: (event: BackendEvent) => void
}

export class ServedDevice {
  readonly device: BackendDevice
  readonly #xs: XenstoreClient
  readonly #driver: BackendDriver
  readonly #reservation: string | undefined
  readonly #report: (event: BackendEvent) => void
  /** What `CLAIM_NODE` holds while the device is this one. */
  readonly #claim = crypto.randomUUID()
  #connection: BackendConnection | undefined
  /** Why the driver has nothing to offer, to this frontend or to its next life. */
  #refusal: { readonly error: unknown } | undefined
  #stopping = false
  #failed = false
  #peerGone = false
  #closeTimer: ReturnType<typeof setTimeout> | undefined
  /** Aborted when something besides xenstore asks for another look. */
  #look = new AbortController()

  constructor(address: DeviceAddress, o: ServedDeviceOptions) {
    this.#xs = o.xs
    this.#driver = o.driver
    this.#reservation = o.reservation
    this.#report = o.report
    this.device = {
      ...address,
      path: backendPath(address),
      frontendPath: frontendPath(address),
      publish: (nodes) => this.#publish(nodes),
      fail: (error) => void this.#fail(error),
    }
  }

  /** Runs the device from its claim to its removal. Resolves at once if it isn't this driver's. */
  async run(): Promise<void> {
    try {
      const nodes = (await this.#isNew(this.#xs)) ? await this.#offer() : undefined
      if (nodes !== undefined) await this.#serve(nodes)
    } finally {
      clearTimeout(this.#closeTimer)
    }
  }

  /** Asks the frontend to let go, for good; after a while the device is closed without its consent. */
  stop(): void {
    this.#stopping = true
    this.#closeTimer ??= setTimeout(() => this.peerGone(), CLOSE_TIMEOUT_MS)
    this.#look.abort()
  }

  /** The frontend's domain is no more, whatever its nodes still say. */
  peerGone(): void {
    this.#peerGone = true
    this.#look.abort()
  }

  async #offer(): Promise<NodeValues | undefined> {
    try {
      return await this.#driver.offer(this.device)
    } catch (error) {
      this.#refusal = { error }
      return {}
    }
  }

  async #serve(nodes: NodeValues): Promise<void> {
    try {
      if (!(await this.#take(nodes))) return
      // Not before the device is taken: until then its failure is no business of this server.
      if (this.#refusal) await this.#fail(this.#refusal.error)
      else this.#report({ kind: 'offered', device: this.device })
      try {
        while (await this.#perform(await this.#next()));
      } finally {
        await this.#detach()
        this.#report({ kind: 'removed', device: this.device })
      }
    } finally {
      this.#driver.removed?.(this.device)
    }
  }

  /** Claims the device: one transaction, so that of several servers one gets it. */
  #take(nodes: NodeValues): Promise<boolean> {
    const { path } = this.device
    return this.#xs.transaction(async (view) => {
      if (this.#stopping || !(await this.#isNew(view))) return false
      await writeNodes(view, path, { ...nodes, [CLAIM_NODE]: this.#claim })
      await view.write(`${path}/state`, String(this.#refusal ? XenbusState.Closing : XenbusState.InitWait))
      return true
    })
  }

  async #isNew(view: XenstoreReader): Promise<boolean> {
    const { path } = this.device
    const [state, reservation] = await Promise.all([view.readOptional(`${path}/state`), view.readOptional(`${path}/${RESERVATION_NODE}`)])
    return state === String(XenbusState.Initialising) && reservation === this.#reservation
  }

  async #next(): Promise<BackendStep> {
    for (;;) {
      const { signal } = this.#look
      try {
        return await this.#xs.wait(
          async (view) => {
            const step = backendStep(await this.#snapshot(view))
            return step === 'wait' ? undefined : step
          },
          { signal },
        )
      } catch (error) {
        if (!signal.aborted) throw error
        this.#look = new AbortController()
      }
    }
  }

  async #snapshot(view: XenstoreReader): Promise<BackendSnapshot> {
    const { path, frontendPath: peerPath } = this.device
    const [own, online, peer] = await Promise.all([this.#ownState(view), view.readOptional(`${path}/online`), readOtherEnd(view, `${peerPath}/state`)])
    return {
      own,
      online: online === '1',
      peer: this.#peerGone ? undefined : this.#readPeerState(`${peerPath}/state`, peer),
      connected: this.#connection !== undefined,
      intent: this.#stopping || this.#refusal ? 'stop' : this.#failed ? 'close' : 'serve',
    }
  }

  /** Undefined when the toolstack has removed the device, whatever it has put in its place. */
  async #ownState(view: XenstoreReader): Promise<XenbusState | undefined> {
    const { path } = this.device
    const [claim, state] = await Promise.all([view.readOptional(`${path}/${CLAIM_NODE}`), view.readOptional(`${path}/state`)])
    if (claim !== this.#claim || state === undefined) return undefined
    return parseState(state) ?? XenbusState.Unknown
  }

  /** A frontend in a state that doesn't exist is at fault, and as good as gone. */
  #readPeerState(node: string, value: string | undefined): XenbusState | undefined {
    try {
      return readState(node, value)
    } catch (error) {
      if (this.#connection !== undefined) void this.#fail(error)
      return undefined
    }
  }

  /** @returns whether the device lives on. */
  async #perform(step: BackendStep): Promise<boolean> {
    switch (step) {
      case 'connect':
        await this.#connect()
        return true
      case 'offer':
        await this.#switchState(XenbusState.InitWait)
        return true
      case 'close':
        await this.#switchState(XenbusState.Closing)
        return true
      case 'disconnect':
        await this.#detach()
        // A device that failed may be tried again by the frontend's next life.
        this.#failed = false
        await this.#switchState(XenbusState.Closed)
        this.#report({ kind: 'closed', device: this.device })
        return true
      default:
        return false
    }
  }

  async #connect(): Promise<void> {
    try {
      const connection = await this.#driver.connect(this.device)
      this.#connection = connection
      // The frontend reads these once it sees Connected: they have to be there before.
      await this.#update((view) => writeNodes(view, this.device.path, connection.nodes))
    } catch (error) {
      await this.#fail(error)
      return
    }
    if (await this.#switchState(XenbusState.Connected)) this.#report({ kind: 'connected', device: this.device })
  }

  async #detach(): Promise<void> {
    const connection = this.#connection
    this.#connection = undefined
    try {
      await connection?.close()
    } catch (error) {
      // The frontend waits to be told that it is over, which it is.
      await this.#fail(error)
    }
  }

  #switchState(state: XenbusState): Promise<boolean> {
    return this.#update((view) => view.write(`${this.device.path}/state`, String(state)))
  }

  /**
   * Changes the device's directory in one transaction. Never brings back one that the toolstack has
   * removed, nor touches another device's in its place.
   * @returns whether it was there
   */
  #update(write: (view: XenstoreView) => Promise<void>): Promise<boolean> {
    return this.#xs.transaction(async (view) => {
      if ((await this.#ownState(view)) === undefined) return false
      await write(view)
      return true
    })
  }

  async #publish(nodes: () => NodeValues): Promise<void> {
    await this.#update(async (view) => {
      if ((await this.#ownState(view)) !== XenbusState.Connected) return
      await writeNodes(view, this.device.path, { ...nodes(), state: String(XenbusState.Connected) })
    })
  }

  async #fail(error: unknown): Promise<void> {
    if (this.#failed) return
    this.#failed = true
    this.#report({ kind: 'failed', device: this.device, error })
    this.#look.abort()
    const text = error instanceof XenError ? error.message : `unexpected: ${String(error)}`
    // Best effort: the device closes whether or not its reason could be written down.
    try {
      await this.#xs.write(errorPath(this.device), text.slice(0, 1024))
    } catch {}
  }
}

async function writeNodes(view: XenstoreView, path: string, nodes: NodeValues): Promise<void> {
  await Promise.all(Object.entries(nodes).map(([name, value]) => view.write(`${path}/${name}`, value)))
}
