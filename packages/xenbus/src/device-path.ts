/** Where xenbus keeps a device: one directory in the home of each of its two domains. */

/** The two ends of one device. */
export interface DeviceAddress {
  /** `vbd`, `vif` ... */
  readonly type: string
  /** Its name among the backends, where that is another one: `vbd3` or `qdisk` for a `vbd`. */
  readonly backendType?: string
  /** The domain that runs the backend. */
  readonly backendDomid: number
  /** The domain that runs the frontend. */
  readonly frontendDomid: number
  /** The device's number in its frontend. */
  readonly devid: number
}

export const domainHome = (domid: number): string => `/local/domain/${domid}`

/** Directory of all backends of one type in a domain; the frontends' domids lie in it. */
export const backendRoot = (domid: number, type: string): string =>
  `${domainHome(domid)}/backend/${type}`

const backendTypeOf = ({ type, backendType = type }: DeviceAddress): string => backendType

export const backendPath = (device: DeviceAddress): string =>
  `${backendRoot(device.backendDomid, backendTypeOf(device))}/${device.frontendDomid}/${device.devid}`

export const frontendPath = (device: Omit<DeviceAddress, 'backendDomid' | 'backendType'>): string =>
  `${domainHome(device.frontendDomid)}/device/${device.type}/${device.devid}`

/**
 * Where libxl keeps its own account of a domain's devices: `xl block-list`, `xl block-detach` and
 * the destruction of a domain know those alone. `/libxl/DOMID` is there for each domain that libxl
 * made.
 */
export const libxlHome = (domid: number): string => `/libxl/${domid}`

export const libxlPath = ({ frontendDomid, type, devid }: DeviceAddress): string =>
  `${libxlHome(frontendDomid)}/device/${type}/${devid}`

/** For the operator: unlike the device's own directories, the guest can't read it. */
export function errorRoot(device: DeviceAddress): string {
  const { backendDomid, frontendDomid, devid } = device
  const errors = `${domainHome(backendDomid)}/error/backend`
  return `${errors}/${backendTypeOf(device)}/${frontendDomid}/${devid}`
}

/** Why the device failed last. */
export const errorPath = (device: DeviceAddress): string => `${errorRoot(device)}/error`

/** Id of the last request for a change that was refused, then why. */
export const refusalPath = (device: DeviceAddress): string => `${errorRoot(device)}/xenkit-refusal`
