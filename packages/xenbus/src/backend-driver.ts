/**
 * What a device package adds to the common life of a backend: its driver, and what that is given.
 */
import type { DeviceAddress } from './device-path.ts'
import type { NodeValues } from './nodes.ts'

/** A device as its driver sees it. */
export interface BackendDevice extends DeviceAddress {
  /** Own directory in xenstore: what the toolstack asks for. Policy comes from here. */
  readonly path: string
  /** The frontend's directory. Whatever is read from it is the guest's word: check it. */
  readonly frontendPath: string
  /**
   * Publishes changed nodes of those that `connect` gave, its size for example. A connected
   * frontend is told by its backend's state being written once more, in the same transaction.
   * @param nodes asked for within the transaction, so that of several calls the last word counts
   */
  publish(nodes: () => NodeValues): Promise<void>
  /**
   * The device is at fault: it is closed, with this as the reason, and no other device is touched.
   */
  fail(error: unknown): void
}

export interface CloseOptions {
  /**
   * `closed`: the frontend closed, and uses its rings no more. `gone`: the frontend, or its rings,
   * are no more.
   */
  readonly frontend: 'closed' | 'gone'
}

/** A driver's attachment to a frontend's rings. */
export interface BackendConnection {
  /**
   * Published in one transaction with the state Connected. Asked for then: what they say may change
   * until it commits.
   */
  readonly nodes: NodeValues
  /**
   * Whether the frontend still publishes the rings that this is attached to. A frontend that closed
   * and published anew between two looks can't be told from its `state` alone.
   */
  isCurrent(): Promise<boolean>
  /**
   * Settles what is in flight, then lets go of rings and ports. Called once.
   *
   * The requests that the rings still hold are to be answered first if the frontend has closed.
   * They must not be begun where it is gone: a guest that has moved to another host has sent them
   * anew there, and they would overwrite what it has written since.
   *
   * A frontend that has closed may get an event only with answers to requests that it had out: one
   * that has nothing out may have freed what its interrupt handler looks at (Linux before 5.15 has,
   * and panics).
   */
  close(o: CloseOptions): Promise<void>
}

/** What a device package has to add to the common life of a backend. */
export interface BackendDriver {
  /**
   * Asked for each new device. Returns the nodes to advertise with InitWait, or undefined to leave
   * the device to another backend; it may then be asked again, until another one has taken it. What
   * it throws closes the device for good.
   */
  offer(device: BackendDevice): Promise<NodeValues | undefined>
  /**
   * Attaches to what the frontend published. What it throws closes the device, until the frontend
   * begins anew.
   */
  connect(device: BackendDevice): Promise<BackendConnection>
  /** Nodes of the own directory that a toolstack may change while the device lives. */
  readonly changeable?: readonly string[]
  /**
   * One of them holds something else than before; several changes may be told as one. Called beside
   * no other function of the device's. What it throws is answered to who asked, and does the device
   * no harm.
   */
  changed?(device: BackendDevice): Promise<void>
  /**
   * Called once after `offer`, unless that returned undefined: the device is gone for good, or
   * another backend was faster to take it.
   */
  removed?(device: BackendDevice): void
}

export type BackendEvent =
  | {
      readonly kind: 'offered' | 'connected' | 'closed' | 'removed'
      readonly device: BackendDevice
    }
  /** The device is at fault and being closed; or a change that was asked for was refused. */
  | { readonly kind: 'failed' | 'refused'; readonly device: BackendDevice; readonly error: unknown }
