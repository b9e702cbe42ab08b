/**
 * Serves every device of one type that a toolstack gives to this domain: watches
 * `/local/domain/<domid>/backend/<type>`, or several such directories, runs a `ServedDevice` for
 * each directory that appears, and keeps them apart, so that what ends one leaves the others alone.
 */
import { DOMID_MAX, UINT32_MAX, XenstoreError } from '@xenkit/hypervisor'
import { parseDecimal, type XenstoreClient } from '@xenkit/xenstore-client'
import { ServedDevice } from './backend-device.ts'
import type { BackendDriver, BackendEvent } from './backend-driver.ts'
import { backendPath, backendRoot, type DeviceAddress } from './device-path.ts'

export interface ServeBackendsOptions {
  /** The domain that this program runs in. */
  readonly domid: number
  readonly type: string
  /** Names of the type among the backends: the directories to watch. Default: the type alone. */
  readonly backendTypes?: readonly string[]
  readonly driver: BackendDriver
  /**
   * Serve only devices that were plugged with this reservation. By default: only those without one.
   */
  readonly reservation?: string
  /** Ends the service: every device is closed, which its frontend is asked for first. */
  readonly signal?: AbortSignal
  readonly onEvent?: (event: BackendEvent) => void
}

/**
 * Resolves when the signal is aborted and every device is closed.
 * @throws XenstoreError, NotAvailableError when xenstored itself fails; never for a device's fault.
 */
export async function serveBackends(xs: XenstoreClient, o: ServeBackendsOptions): Promise<void> {
  // What ends one of the watches ends the others.
  const end = new AbortController()
  const served = new ServedDevices(
    xs,
    o,
    AbortSignal.any(o.signal ? [o.signal, end.signal] : [end.signal]),
  )
  try {
    const { type, backendTypes = [type] } = o
    await Promise.all([
      ...backendTypes.map((backendType) => served.discover(backendType)),
      served.watchForLostDomains(),
    ])
  } finally {
    end.abort()
    await served.stop()
  }
}

class ServedDevices {
  readonly #xs: XenstoreClient
  readonly #o: ServeBackendsOptions
  readonly #signal: AbortSignal
  readonly #devices = new Map<
    string,
    {
      readonly device: ServedDevice
      readonly address: DeviceAddress
      readonly ended: Promise<void>
      changed: boolean
    }
  >()

  constructor(xs: XenstoreClient, o: ServeBackendsOptions, signal: AbortSignal) {
    this.#xs = xs
    this.#o = o
    this.#signal = signal
  }

  async discover(backendType: string): Promise<void> {
    const root = backendRoot(this.#o.domid, backendType)
    for await (const path of this.#xs.watch(root, { signal: this.#signal })) {
      const [frontend, devid] = path.slice(root.length + 1).split('/')
      // The first event, and one for a whole directory, name no device: look at all there are.
      const found = frontend && devid ? [[frontend, devid] as const] : await this.#scan(root)
      // A directory that was removed has taken devices with it that are not found any more.
      if (!frontend || !devid) for (const { device } of this.#devices.values()) device.look()
      for (const [domid, id] of found) this.#adopt(backendType, domid, id)
    }
  }

  /** A domain that died leaves its nodes behind until the toolstack has noticed. */
  async watchForLostDomains(): Promise<void> {
    // Only a privileged domain may watch for it; elsewhere the toolstack's word has to do.
    if (this.#o.domid !== 0) return
    for await (const _ of this.#xs.watch('@releaseDomain', { signal: this.#signal })) {
      for (const { device, address } of this.#devices.values()) {
        if (!(await this.#xs.isDomainIntroduced(address.frontendDomid))) device.peerGone()
      }
    }
  }

  async stop(): Promise<void> {
    for (const { device } of this.#devices.values()) device.stop()
    await Promise.all([...this.#devices.values()].map(({ ended }) => ended))
  }

  async #scan(root: string): Promise<(readonly [string, string])[]> {
    const frontends = await this.#list(root)
    const devices = await Promise.all(
      frontends.map(async (domid) =>
        (await this.#list(`${root}/${domid}`)).map((devid) => [domid, devid] as const),
      ),
    )
    return devices.flat()
  }

  async #list(path: string): Promise<string[]> {
    try {
      return await this.#xs.list(path)
    } catch (error) {
      if (error instanceof XenstoreError && error.errno === 'ENOENT') return []
      throw error
    }
  }

  #adopt(backendType: string, frontend: string, devid: string): void {
    // Directories that aren't numbers are no devices (libxl leaves none, an administrator might).
    const numbers = {
      frontendDomid: parseDecimal(frontend, { max: DOMID_MAX }),
      devid: parseDecimal(devid, { max: UINT32_MAX }),
    }
    if (numbers.frontendDomid === undefined || numbers.devid === undefined) return
    const address: DeviceAddress = {
      type: this.#o.type,
      backendType,
      backendDomid: this.#o.domid,
      frontendDomid: numbers.frontendDomid,
      devid: numbers.devid,
    }
    const path = backendPath(address)
    const known = this.#devices.get(path)
    if (known) {
      known.changed = true
      known.device.look()
      return
    }
    const device = new ServedDevice(address, {
      xs: this.#xs,
      driver: this.#o.driver,
      reservation: this.#o.reservation,
      report: this.#o.onEvent ?? (() => {}),
    })
    const ended = device
      .run()
      .catch((error: unknown) =>
        this.#o.onEvent?.({ kind: 'failed', device: device.device, error }),
      )
      .finally(() => {
        this.#devices.delete(path)
        for (const other of this.#devices.values()) other.device.roomMade()
        // It may have changed after it was found not to be ours: look again, unless that is all
        // over.
        if (entry.changed && !this.#signal.aborted) this.#adopt(backendType, frontend, devid)
      })
    const entry = { device, address, ended, changed: false }
    this.#devices.set(path, entry)
  }
}
