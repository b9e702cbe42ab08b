/**
 * Serves every device of one type that a toolstack gives to this domain. It watches
 * `/local/domain/<domid>/backend/<type>`, or several such directories, and runs a `ServedDevice`
 * for each directory that appears. A fault of one device doesn't touch the others.
 */
import { DOMID_MAX, UINT32_MAX, XenstoreError } from '@xenkit/hypervisor'
import { parseDecimal, type XenstoreClient } from '@xenkit/xenstore-client'
import { ServedDevice } from './backend-device.ts'
import type { BackendDriver, BackendEvent } from './backend-driver.ts'
import { backendPath, backendRoot, type DeviceAddress } from './device-path.ts'

/** Options of `serveBackends`. */
export interface ServeBackendsOptions {
  /** The domain that this program runs in. */
  readonly domid: number
  /** Type of the devices: `vbd`, `vif` ... */
  readonly type: string
  /**
   * Types in backends' paths, such as `vbd3` for a `vbd`: the directories to watch. Default:
   * `type`.
   */
  readonly backendTypes?: readonly string[]
  readonly driver: BackendDriver
  /**
   * Serve only devices that were plugged with this reservation. Default: those plugged without one.
   */
  readonly reservation?: string
  /** Stops the server when it aborts: asks each frontend to close, then closes the devices. */
  readonly signal?: AbortSignal
  /** Called with each event of each device. */
  readonly onEvent?: (event: BackendEvent) => void
}

/**
 * Serves devices until the signal aborts; resolves when every device is closed.
 * @throws XenstoreError, XenstoreClosedError when xenstored itself fails, never for a device's
 *   fault
 */
export async function serveBackends(xs: XenstoreClient, o: ServeBackendsOptions): Promise<void> {
  // If one of the watches ends, this ends the others too.
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
      // The watch's first event, and an event for a whole directory, name no device: check all
      // devices.
      const found = frontend && devid ? [[frontend, devid] as const] : await this.#scan(root)
      // The scan doesn't find devices whose directories were removed, so make each served device
      // check.
      if (!frontend || !devid) for (const { device } of this.#devices.values()) device.look()
      for (const [domid, id] of found) this.#adopt(backendType, domid, id)
    }
  }

  /** Watches for destroyed domains, whose nodes stay until the toolstack removes them. */
  async watchForLostDomains(): Promise<void> {
    // Only domain 0 may watch @releaseDomain. In other domains, a device stays until the toolstack
    // acts.
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
    // Ignore names that aren't numbers: an administrator may have made such a directory.
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
        // The device changed after its server had found that it isn't ours, so check it again.
        if (entry.changed && !this.#signal.aborted) this.#adopt(backendType, frontend, devid)
      })
    const entry = { device, address, ended, changed: false }
    this.#devices.set(path, entry)
  }
}
