/**
 * One backend device: reads the device's two xenstore directories, asks `backendStep` for the next
 * step, and takes that step.
 */
import { XenbusState } from '@xenkit/wire'
import {
  type XenstoreClient,
  XenstoreClosedError,
  type XenstoreReader,
  type XenstoreView,
} from '@xenkit/xenstore-client'
import type {
  BackendConnection,
  BackendDevice,
  BackendDriver,
  BackendEvent,
  CloseOptions,
} from './backend-driver.ts'
import { type BackendSnapshot, type BackendStep, backendStep } from './backend-state.ts'
import {
  type DeviceAddress,
  backendPath,
  errorPath,
  frontendPath,
  refusalPath,
} from './device-path.ts'
import { type HotplugScript, hotplugScript } from './hotplug.ts'
import { Level } from './level.ts'
import { FrontendState } from './frontend-state.ts'
import { lenient, writeNodes } from './node-access.ts'
import { Pace } from './pace.ts'
import { backendDeviceNodes, type NodeValues, RESULT_OK } from './nodes.ts'
import { reasonForGuest, reasonOf } from './reason.ts'
import { Wishes } from './wishes.ts'

/**
 * Milliseconds that a frontend has to close its device when the server stops. After that the server
 * closes the device alone.
 */
const CLOSE_TIMEOUT_MS = 5_000

/** Options of `ServedDevice`. */
export interface ServedDeviceOptions {
  readonly xs: XenstoreClient
  readonly driver: BackendDriver
  /** Serve the device only if it was plugged with this reservation; undefined: only without any. */
  readonly reservation: string | undefined
  /** Called with each event of the device, such as `connected`. */
  readonly report: (event: BackendEvent) => void
}

/**
 * One device while a server serves it, from taking it to its removal. `serveBackends` runs one
 * `ServedDevice` for each device that it finds.
 */
export class ServedDevice {
  readonly device: BackendDevice
  readonly #xs: XenstoreClient
  readonly #driver: BackendDriver
  readonly #reservation: string | undefined
  readonly #report: (event: BackendEvent) => void
  /**
   * Value that this server writes to the device's node `xenkit-claim`, to take it before other
   * servers.
   */
  readonly #claim = crypto.randomUUID()
  readonly #frontend: FrontendState
  readonly #pace = new Pace()
  readonly #wishes: Wishes
  #connection: BackendConnection | undefined
  #script: HotplugScript = 'none'
  /** Error with which the last `offer` of the driver refused the device, if it did. */
  #refusal: { readonly error: unknown } | undefined
  #stopping = false
  #failed = false
  #closeTimer: ReturnType<typeof setTimeout> | undefined
  /** Raised when something changed, so that `backendStep` may choose another step. */
  readonly #changed = new Level()

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
    this.#wishes = new Wishes(o.xs, this.device.path, o.driver.changeable ?? [])
    this.#frontend = new FrontendState({
      xs: o.xs,
      path: this.device.frontendPath,
      changed: () => this.#changed.raise(),
      refused: (error) => void this.#fail(error),
    })
  }

  /**
   * Takes the device and runs it until its removal. Resolves at once if another driver serves it.
   * If xenstored refuses a request, the device closes, and the step is tried again when something
   * changes.
   * @throws XenstoreClosedError when the connection to xenstored is lost
   * @throws XenstoreError when xenstored refuses a step of a device that is being stopped
   */
  async run(): Promise<void> {
    try {
      while (await this.#tries(() => this.#live()));
    } finally {
      clearTimeout(this.#closeTimer)
      this.#pace.stop()
    }
  }

  /** Asks the frontend to close the device for good. After 5 s the device is closed anyway. */
  stop(): void {
    this.#stopping = true
    this.#closeTimer ??= setTimeout(() => this.peerGone(), CLOSE_TIMEOUT_MS)
    this.look()
  }

  /** Reads the device's own directory again, because it may have changed. */
  look(): void {
    this.#frontend.retry()
    this.#changed.raise()
  }

  /** Tries refused requests again: another device was removed, which may have freed quota. */
  roomMade(): void {
    this.#frontend.retry()
    if (this.#failed) this.#changed.raise()
  }

  /** Closes the device because its frontend's domain was destroyed, although its nodes remain. */
  peerGone(): void {
    this.#frontend.gone()
    this.look()
  }

  /**
   * Runs one step. If xenstored refuses a request, waits until something changes.
   * @param step returns whether the device is still served afterwards
   * @returns the result of `step`, or true after a refusal
   */
  async #tries(step: () => Promise<boolean>): Promise<boolean> {
    try {
      return await step()
    } catch (error) {
      if (error instanceof XenstoreClosedError) {
        // During a reconnect this read waits; if the connection is over, it rejects.
        await this.#xs.exists(this.device.path)
        return true
      }
      if (this.#stopping) throw error
      await this.#fail(error)
      await this.#changed.wait()
      return true
    }
  }

  async #live(): Promise<boolean> {
    const isNew = await this.#isNew(this.#xs)
    // Note the nodes before the driver reads them, so that no later change is missed.
    await this.#wishes.changed()
    const nodes = isNew && !this.#stopping ? await this.#offer() : undefined
    if (nodes !== undefined) await this.#serve(nodes)
    return false
  }

  async #offer(): Promise<NodeValues | undefined> {
    this.#refusal = undefined
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
      this.#failed = false
      // Report only now: before `#take`, another server may take the device.
      if (this.#refusal) await this.#tell(this.#refusal.error)
      else this.#report({ kind: 'offered', device: this.device })
      this.#pace.begin()
      const end = new AbortController()
      const following = this.#frontend.follow(end.signal)
      try {
        while (await this.#tries(async () => this.#perform(await this.#next())));
        await this.#removeDirectory()
      } finally {
        end.abort()
        await following
        await this.#detach({ frontend: 'gone' })
        this.#report({ kind: 'removed', device: this.device })
      }
    } finally {
      this.#driver.removed?.(this.device)
    }
  }

  /** Takes the device in one transaction, so that only one of several servers gets it. */
  #take(nodes: NodeValues): Promise<boolean> {
    const { path } = this.device
    return this.#xs.transaction(async (view) => {
      if (this.#stopping || !(await this.#isNew(view))) return false
      this.#script = hotplugScript(
        await lenient(backendDeviceNodes.readNode(view, path, 'script'), undefined),
      )
      await writeNodes(view, path, nodes)
      await backendDeviceNodes.write(view, path, {
        'xenkit-claim': this.#claim,
        ...this.#hotplugNodes(),
        state: this.#isClosedAtOnce ? XenbusState.Closing : XenbusState.InitWait,
      })
      return true
    })
  }

  /**
   * Returns the hotplug nodes to write together with InitWait, because the toolstack runs the
   * hotplug script when it sees InitWait.
   */
  #hotplugNodes(): { readonly 'hotplug-status'?: string; readonly 'hotplug-error'?: string } {
    const reason = this.#refusal && reasonForGuest(this.#refusal.error)
    if (reason !== undefined) return { 'hotplug-status': 'error', 'hotplug-error': reason }
    return this.#script === 'prepares' ? {} : { 'hotplug-status': 'connected' }
  }

  /**
   * Whether a device that the driver refused closes at once. With a script that reports, the device
   * stays open until the toolstack, which the script tells, removes it.
   */
  get #isClosedAtOnce(): boolean {
    return this.#refusal !== undefined && this.#script !== 'reports'
  }

  async #isNew(view: XenstoreReader): Promise<boolean> {
    const { path } = this.device
    const nodes = await lenient(backendDeviceNodes.read(view, path), undefined)
    // `#take` was committed, but the connection was lost before the answer came.
    if (nodes?.['xenkit-claim'] === this.#claim) return true
    return (
      nodes?.state === XenbusState.Initialising &&
      nodes['xenkit-reserved-for'] === this.#reservation
    )
  }

  async #next(): Promise<BackendStep> {
    for (;;) {
      const step = backendStep(await this.#snapshot())
      if (step !== 'wait') return step
      if (await this.#followWishes()) continue
      await this.#changed.wait()
    }
  }

  /** Lets the driver follow nodes that the toolstack changed. @returns whether any had changed */
  async #followWishes(): Promise<boolean> {
    if (!(await this.#wishes.changed())) return false
    const request = await this.#wishes.request()
    const refusal = await this.#change()
    try {
      if (request !== undefined) await this.#answer(request, refusal)
    } catch (error) {
      this.#wishes.forget()
      throw error
    }
    return true
  }

  /** Calls the driver's `changed`. @returns the error that it threw, if any */
  async #change(): Promise<{ readonly error: unknown } | undefined> {
    try {
      if (this.#refusal) throw this.#refusal.error
      await this.#driver.changed?.(this.device)
      return undefined
    } catch (error) {
      this.#report({ kind: 'refused', device: this.device, error })
      return { error }
    }
  }

  /**
   * Writes the result of the toolstack's request. The guest can read the result node, so that has a
   * short reason only. The full reason is written to the error directory first.
   */
  async #answer(request: string, refusal: { readonly error: unknown } | undefined): Promise<void> {
    if (refusal) await this.#note(refusalPath(this.device), `${request} ${reasonOf(refusal.error)}`)
    const result = refusal ? reasonForGuest(refusal.error) : RESULT_OK
    const nodes = { 'xenkit-result': `${request} ${result}` }
    await this.#update((view) => backendDeviceNodes.write(view, this.device.path, nodes))
  }

  async #snapshot(): Promise<BackendSnapshot> {
    const { path } = this.device
    const [own, online, hotplug, peer, isCurrent] = await Promise.all([
      this.#ownState(this.#xs),
      lenient(backendDeviceNodes.readNode(this.#xs, path, 'online'), undefined),
      lenient(backendDeviceNodes.readNode(this.#xs, path, 'hotplug-status'), undefined),
      this.#frontend.read(),
      this.#connection?.isCurrent(),
    ])
    const { fault } = this.#frontend
    const isOpen = own !== undefined && own !== XenbusState.Closed
    if (fault && isOpen) void this.#fail(fault)
    return {
      own,
      online,
      prepared: hotplug === 'connected',
      peer,
      peerBefore: this.#frontend.before,
      rings: isCurrent === undefined ? 'none' : isCurrent ? 'current' : 'stale',
      intent: this.#stopping || this.#isClosedAtOnce ? 'stop' : this.#failed ? 'close' : 'serve',
      mayOffer: this.#pace.mayBegin(() => this.#changed.raise()),
      reconfigures: this.#driver.reconfigured !== undefined,
    }
  }

  /**
   * Returns the device's own state; undefined if the toolstack removed the device, even if it has
   * plugged another one there since.
   */
  async #ownState(view: XenstoreReader): Promise<XenbusState | undefined> {
    const { path } = this.device
    const [claim, state] = await Promise.all([
      lenient(backendDeviceNodes.readNode(view, path, 'xenkit-claim'), undefined),
      lenient(backendDeviceNodes.readNode(view, path, 'state'), XenbusState.Unknown),
    ])
    return claim === this.#claim ? state : undefined
  }

  /** Takes the step. @returns whether the device is still served afterwards */
  async #perform(step: BackendStep): Promise<boolean> {
    switch (step) {
      case 'connect':
        this.#frontend.heeded()
        await this.#connect()
        return true
      case 'offer':
        if (this.#connection !== undefined || this.#failed) {
          await this.#endLife({ frontend: 'gone' })
        }
        await this.#switchState(XenbusState.InitWait)
        this.#failed = false
        this.#frontend.heeded()
        this.#pace.begin()
        return true
      case 'reopen':
        await this.#switchState(XenbusState.Connected)
        this.#frontend.heeded()
        return true
      case 'reconfigure':
      case 'resume':
        this.#frontend.heeded()
        await this.#reconfigure(
          step === 'resume' ? XenbusState.Connected : XenbusState.Reconfigured,
        )
        return true
      case 'close':
        await this.#switchState(XenbusState.Closing)
        this.#frontend.heeded()
        return true
      case 'settle':
      case 'disconnect':
        await this.#endLife({ frontend: step === 'disconnect' ? 'gone' : 'closed' })
        await this.#switchState(XenbusState.Closed)
        // The failure ends with this connection: the frontend may connect again.
        this.#failed = false
        this.#report({ kind: 'closed', device: this.device })
        return true
      default:
        return false
    }
  }

  async #connect(): Promise<void> {
    const { path } = this.device
    try {
      const connection = (this.#connection = await this.#driver.connect(this.device))
      const published = await this.#update(async (view) => {
        await writeNodes(view, path, connection.nodes)
        await backendDeviceNodes.write(view, path, { state: XenbusState.Connected })
      })
      if (published) this.#report({ kind: 'connected', device: this.device })
    } catch (error) {
      await this.#fail(error)
    }
  }

  async #reconfigure(next: XenbusState): Promise<void> {
    try {
      await this.#driver.reconfigured?.(this.device)
      await this.#switchState(next)
    } catch (error) {
      await this.#fail(error)
    }
  }

  /**
   * Publishes changed nodes in any state. If a `connect` commits at the same time, xenstored lets
   * one of the two transactions conflict and run again, so that neither loses the other's values.
   */
  async #publish(nodes: () => NodeValues): Promise<void> {
    await this.#update(async (view) => {
      const { path } = this.device
      await writeNodes(view, path, nodes())
      const state = await lenient(backendDeviceNodes.readNode(view, path, 'state'), undefined)
      if (state === XenbusState.Connected) await backendDeviceNodes.write(view, path, { state })
    })
  }

  async #endLife(o: CloseOptions): Promise<void> {
    await this.#detach(o)
    this.#pace.end(this.#failed ? 'failed' : 'closed')
  }

  async #detach(o: CloseOptions): Promise<void> {
    const connection = this.#connection
    this.#connection = undefined
    try {
      await connection?.close(o)
    } catch (error) {
      // The frontend waits for Closed, so write it despite the error. Report the error even if the
      // device failed before.
      this.#failed = true
      await this.#tell(error)
    }
  }

  /**
   * Removes the device's directory if this is a driver domain. The toolstack waits until `xl devd`
   * has done that, but a domain without scripts doesn't run `xl devd`.
   */
  async #removeDirectory(): Promise<void> {
    const { path, backendDomid } = this.device
    if (backendDomid === 0 || this.#script === 'prepares') return
    await this.#update(async (view) => {
      if (!(await lenient(backendDeviceNodes.readNode(view, path, 'online'), undefined))) {
        await view.rm(path)
      }
    })
  }

  #switchState(state: XenbusState): Promise<boolean> {
    return this.#update((view) => backendDeviceNodes.write(view, this.device.path, { state }))
  }

  /**
   * Changes the device's directory in one transaction. Does nothing if the toolstack has removed
   * the device, even if it has plugged another one there since.
   * @returns whether the device was there
   */
  #update(write: (view: XenstoreView) => Promise<void>): Promise<boolean> {
    return this.#xs.transaction(async (view) => {
      if ((await this.#ownState(view)) === undefined) return false
      await write(view)
      return true
    })
  }

  async #fail(error: unknown): Promise<void> {
    if (this.#failed) return
    this.#failed = true
    this.#changed.raise()
    await this.#tell(error)
  }

  async #tell(error: unknown): Promise<void> {
    this.#report({ kind: 'failed', device: this.device, error })
    await this.#note(errorPath(this.device), reasonOf(error))
  }

  /** Writes a reason for the operator. If xenstored refuses that, the device isn't affected. */
  async #note(path: string, reason: string): Promise<void> {
    try {
      await this.#xs.write(path, reason)
    } catch {}
  }
}
