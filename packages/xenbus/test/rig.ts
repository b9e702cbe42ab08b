/**
 * The setup of most tests here: a machine with a backend domain, a guest, and servers that run a
 * recording driver.
 */
import { createMachine, type SimDomain, type SimMachine } from '@xenkit/sim'
import { openXenstore, type XenstoreClient } from '@xenkit/xenstore-client'
import {
  type BackendEvent,
  type DeviceAddress,
  FrontendDevice,
  backendPath,
  frontendPath,
  plugDevice,
  serveBackends,
} from '../src/index.ts'
import { Ledger, RecordingDriver } from './recording-driver.ts'

export const TYPE = 'toy'

export interface Server {
  readonly driver: RecordingDriver
  readonly events: BackendEvent[]
  /** Resolves with the first event of this kind for the device, whether past or future. */
  event(kind: BackendEvent['kind'], devid?: number): Promise<BackendEvent>
  /** Stops the server and waits until it has ended. */
  stop(): Promise<void>
  /** Settles when the server ends. */
  readonly served: Promise<void>
}

export interface Rig extends AsyncDisposable {
  readonly machine: SimMachine
  readonly dom0: SimDomain
  /** The domain of the backends: domain 0, or another one with `driverDomain`. */
  readonly backend: SimDomain
  readonly guest: SimDomain
  /** A connection of domain 0, then one of the guest. */
  readonly xs: XenstoreClient
  readonly guestXs: XenstoreClient
  readonly ledger: Ledger
  address(devid?: number): DeviceAddress
  path(side: 'front' | 'back', devid?: number): string
  plug(devid?: number): Promise<void>
  /**
   * Starts a server.
   * @param ledger by default the one that all servers of this rig share, which finds a device that
   * two servers have connected
   */
  serve(ledger?: Ledger): Promise<Server>
  front(devid?: number): Promise<FrontendDevice>
  /** Waits until the node holds `value`, or doesn't exist if that is undefined. */
  until(node: string, value: string | undefined): Promise<void>
  /** Makes `count` round trips to xenstored, so that pending work proceeds. */
  turns(count: number): Promise<void>
}

export async function rig(
  o: { readonly driverDomain?: boolean; readonly seed?: number } = {},
): Promise<Rig> {
  const machine = createMachine({
    pages: 64,
    grants: 64,
    ports: 16,
    ...(o.seed === undefined ? {} : { seed: o.seed }),
  })
  const dom0 = machine.createDomain()
  const backend = o.driverDomain ? machine.createDomain() : dom0
  const guest = machine.createDomain()
  const [xs, guestXs] = await Promise.all([
    openXenstore(dom0.xenstore),
    openXenstore(guest.xenstore),
  ])
  const clients = [xs, guestXs]
  const servers: Server[] = []
  const ledger = new Ledger()
  const address = (devid = 0): DeviceAddress => ({
    type: TYPE,
    backendDomid: backend.domid,
    frontendDomid: guest.domid,
    devid,
  })
  return {
    machine,
    dom0,
    backend,
    guest,
    xs,
    guestXs,
    ledger,
    address,
    path: (side, devid) => (side === 'front' ? frontendPath : backendPath)(address(devid)),
    plug: (devid) => plugDevice(xs, { ...address(devid), frontend: {}, backend: {} }),
    front: (devid = 0) => FrontendDevice.open(guestXs, { domid: guest.domid, type: TYPE, devid }),
    until: (node, value) =>
      xs
        .wait(async (view) => ((await view.readOptional(node)) === value ? true : undefined))
        .then(() => {}),
    async turns(count) {
      for (let i = 0; i < count; i++) await xs.exists('/')
    },
    async serve(own = ledger) {
      const client = await openXenstore(backend.xenstore)
      clients.push(client)
      const server = startServer(client, { domid: backend.domid, ledger: own })
      servers.push(server)
      return server
    },
    async [Symbol.asyncDispose]() {
      await Promise.all(servers.map((server) => server.stop()))
      for (const client of clients) client.close()
      await machine[Symbol.asyncDispose]()
    },
  }
}

function startServer(
  client: XenstoreClient,
  o: { readonly domid: number; readonly ledger: Ledger },
): Server {
  const driver = new RecordingDriver(o.ledger)
  const events: BackendEvent[] = []
  const listeners = new Set<(event: BackendEvent) => void>()
  const abort = new AbortController()
  const served = serveBackends(client, {
    domid: o.domid,
    type: TYPE,
    driver,
    signal: abort.signal,
    onEvent(event) {
      events.push(event)
      for (const listener of listeners) listener(event)
    },
  })
  return {
    driver,
    events,
    served,
    event: (kind, devid = 0) =>
      new Promise((resolve) => {
        const fits = (event: BackendEvent): boolean =>
          event.kind === kind && event.device.devid === devid
        const known = events.find(fits)
        if (known) resolve(known)
        else listeners.add((event) => fits(event) && resolve(event))
      }),
    stop() {
      abort.abort()
      return served
    },
  }
}

/** Opens the frontend's device, publishes a ring and waits until the backend is Connected. */
export async function connect(r: Rig, devid = 0): Promise<FrontendDevice> {
  const front = await r.front(devid)
  await front.publish({ 'ring-ref': '8' })
  await front.connected()
  return front
}
