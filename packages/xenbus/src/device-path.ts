/** Paths of a device in xenstore: one directory in the home of each of its two domains. */

/** The two ends of one device. */
export interface DeviceAddress {
  /** `vbd`, `vif` ... */
  readonly type: string
  /** Type in the backend's path, if it differs: `vbd3` or `qdisk` for a `vbd`. */
  readonly backendType?: string
  /** The domain that runs the backend. */
  readonly backendDomid: number
  /** The domain that runs the frontend. */
  readonly frontendDomid: number
  /** The device's number in its frontend. */
  readonly devid: number
}

/** Directory of a domain. */
export const domainHome = (domid: number): string => `/local/domain/${domid}`

/** Directory of all backends of one type in a domain; the frontends' domids lie in it. */
export const backendRoot = (domid: number, type: string): string =>
  `${domainHome(domid)}/backend/${type}`

const backendTypeOf = ({ type, backendType = type }: DeviceAddress): string => backendType

/** The backend's directory of a device. */
export const backendPath = (device: DeviceAddress): string =>
  `${backendRoot(device.backendDomid, backendTypeOf(device))}/${device.frontendDomid}/${device.devid}`

/** The frontend's directory of a device. */
export const frontendPath = (device: Omit<DeviceAddress, 'backendDomid' | 'backendType'>): string =>
  `${domainHome(device.frontendDomid)}/device/${device.type}/${device.devid}`

/**
 * Directory of libxl's own records of a domain, which exists if libxl made the domain. `xl
 * block-list`, `xl block-detach` and `xl destroy` know only the devices that are recorded there.
 */
export const libxlHome = (domid: number): string => `/libxl/${domid}`

/** libxl's record of a device. */
export const libxlPath = ({ frontendDomid, type, devid }: DeviceAddress): string =>
  `${libxlHome(frontendDomid)}/device/${type}/${devid}`

/** Directory of a device's errors, for the operator: the guest can't read it. */
export function errorRoot(device: DeviceAddress): string {
  const { backendDomid, frontendDomid, devid } = device
  const errors = `${domainHome(backendDomid)}/error/backend`
  return `${errors}/${backendTypeOf(device)}/${frontendDomid}/${devid}`
}

/** Node with the reason of the device's last failure. */
export const errorPath = (device: DeviceAddress): string => `${errorRoot(device)}/error`

/** Node with the id of the last change that was refused, and the reason. */
export const refusalPath = (device: DeviceAddress): string => `${errorRoot(device)}/xenkit-refusal`
