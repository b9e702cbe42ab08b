/**
 * The interface between `serveBackends`, which handles devices of any type, and a device package's
 * driver.
 */
import type { DeviceAddress } from './device-path.ts'
import type { NodeValues } from './nodes.ts'

/** A device as its driver sees it. */
export interface BackendDevice extends DeviceAddress {
  /** Own directory in xenstore. The toolstack writes its requests and policy here. */
  readonly path: string
  /** The frontend's directory. A hostile guest may write anything there: check what you read. */
  readonly frontendPath: string
  /**
   * Publishes new values of nodes that `connect` returned, a disk's size for example. The same
   * transaction writes Connected once more, which tells a connected frontend to read them again.
   * @param nodes called within the transaction, so that concurrent calls publish the latest values
   */
  publish(nodes: () => NodeValues): Promise<void>
  /** Closes this device, and no other, with the error as the reason. */
  fail(error: unknown): void
}

/** Says why a connection is closed. */
export interface CloseOptions {
  /**
   * `closed`: the frontend closed and doesn't use its rings any more. `gone`: the frontend died, or
   * has other rings now.
   */
  readonly frontend: 'closed' | 'gone'
}

/** A driver's attachment to a frontend's rings. */
export interface BackendConnection {
  /**
   * Published in one transaction with the state Connected. Read within the transaction, so a getter
   * gives the latest values.
   */
  readonly nodes: NodeValues
  /**
   * Whether the frontend still publishes the rings of this connection; see `isStillPublished`. Its
   * `state` alone doesn't show that it closed and published anew since the last check.
   */
  isCurrent(): Promise<boolean>
  /**
   * Waits for requests in flight, then releases rings and ports. Called once.
   *
   * If the frontend closed, first answer the requests that the rings still hold. If it is gone,
   * don't start them: a guest that moved to another host has sent them again there, and they would
   * overwrite newer data.
   *
   * Notify a closed frontend only of answers to its outstanding requests. One without such requests
   * may have freed what its interrupt handler uses: Linux before 5.15 panics.
   */
  close(o: CloseOptions): Promise<void>
}

/** What a device package implements so that `serveBackends` can serve its devices. */
export interface BackendDriver {
  /**
   * Called for each new device. Returns the nodes to advertise with InitWait. Returns undefined to
   * leave the device to another backend; `offer` is then called again until some backend has taken
   * the device. An error closes the device for good.
   */
  offer(device: BackendDevice): Promise<NodeValues | undefined>
  /**
   * Attaches to the rings that the frontend published. An error closes the device until the
   * frontend starts again.
   */
  connect(device: BackendDevice): Promise<BackendConnection>
  /**
   * Names of nodes in the device's directory that a toolstack may change while the device is
   * served.
   */
  readonly changeable?: readonly string[]
  /**
   * Called when a `changeable` node has changed; several changes may come as one call. Never called
   * concurrently with another driver function for this device. An error is the answer to the
   * toolstack's request, and the device goes on.
   */
  changed?(device: BackendDevice): Promise<void>
  /**
   * Called when a connected frontend has changed its nodes: in the state Reconfiguring, and again
   * when it is Connected after that. Reads the nodes from `frontendPath`. The frontend learns that
   * the new values are in use when this resolves. An error closes the device until the frontend
   * starts again. Without this function Reconfiguring is ignored.
   */
  reconfigured?(device: BackendDevice): Promise<void>
  /**
   * Called once after each `offer` that did not return undefined: the device was removed for good,
   * or another backend took it first.
   */
  removed?(device: BackendDevice): void
}

/** Something that happened to a device, for logs and operators. */
export type BackendEvent =
  | {
      readonly kind: 'offered' | 'connected' | 'closed' | 'removed'
      readonly device: BackendDevice
    }
  /** `failed`: the device is being closed because of the error. `refused`: a change was refused. */
  | { readonly kind: 'failed' | 'refused'; readonly device: BackendDevice; readonly error: unknown }
