/** Opens the hypervisor that a program runs on, real or simulated. */
import { workerData } from 'node:worker_threads'
import { type Hypervisor, NotAvailableError } from '@xenkit/hypervisor'
import { type DomainHandle, type SimDomain, attachDomain } from '@xenkit/sim'
import { type XenControl, openXen, openXenControl } from '@xenkit/xen'

/** Options of `openHypervisor`. */
export interface OpenHypervisorOptions {
  /**
   * Hypervisor to open. Default: the environment variable XEN_ADAPTER, or else `auto`.
   * - `xen`: the hypervisor that this domain runs on
   * - `sim`: the simulated machine of the `xenkit sim` that started this program
   * - `auto`: `sim` inside `xenkit sim`, otherwise `xen`
   */
  readonly adapter?: 'auto' | 'xen' | 'sim'
}

/** Key of workerData under which `xenkit sim` passes a program its domain. */
export const DOMAIN_KEY = 'xenkitDomain'

/**
 * Opens the hypervisor that this program runs on: the simulated machine that started it, or Xen.
 * @throws TypeError for an unknown adapter
 * @throws NotAvailableError when there is no such hypervisor here; the text says what is missing
 */
export const openHypervisor = (o: OpenHypervisorOptions = {}): Promise<Hypervisor> =>
  open(o, openXen)

/**
 * Opens xenstore of the hypervisor that `openHypervisor` would open, for commands that only send
 * requests to a running server.
 */
export const openControl = (): Promise<XenControl> => open({}, openXenControl)

async function open<T>(o: OpenHypervisorOptions, xen: () => Promise<T>): Promise<T | SimDomain> {
  const adapter = o.adapter ?? process.env['XEN_ADAPTER'] ?? 'auto'
  if (adapter !== 'auto' && adapter !== 'xen' && adapter !== 'sim') {
    if (o.adapter === undefined) {
      throw new NotAvailableError(
        `the environment variable XEN_ADAPTER expected auto, xen or sim, got "${adapter}"`,
      )
    }
    throw new TypeError(`"adapter" expected auto, xen or sim, got "${String(adapter)}"`)
  }
  const handle = simulatedDomain()
  if (adapter !== 'xen' && handle) return attachDomain(handle)
  if (adapter === 'sim') {
    throw new NotAvailableError(
      'no simulated machine here: start this program with "xenkit sim PROGRAM"',
    )
  }
  return xen()
}

/**
 * Returns the domain that `xenkit sim` passed to this thread, if any. workerData may be anybody's,
 * so it is checked.
 */
function simulatedDomain(): DomainHandle | undefined {
  const data: unknown = workerData
  if (typeof data !== 'object' || data === null || !(DOMAIN_KEY in data)) return undefined
  // set by `xenkit sim` alone, in the same version of this package
  return data[DOMAIN_KEY] as DomainHandle
}
