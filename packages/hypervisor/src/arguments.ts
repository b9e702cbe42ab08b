/** Checks of a caller's arguments, thrown synchronously before anything happens. */
import type { Hypervisor } from './port.ts'

/**
 * @throws TypeError if `value` isn't an integer
 * @throws RangeError if it lies outside `min..max`, both inclusive
 */
export function expectInteger(name: string, value: number, min: number, max: number): void {
  if (!Number.isInteger(value)) {
    throw new TypeError(`"${name}" expected an integer ${min}..${max}, got ${String(value)}`)
  }
  if (value < min || value > max) {
    throw new RangeError(`"${name}" expected an integer ${min}..${max}, got ${value}`)
  }
}

/** @throws TypeError if `hv` is none, which it isn't while it is a promise */
export function expectHypervisor(hv: unknown): asserts hv is Hypervisor {
  if (typeof hv === 'object' && hv !== null && 'xenstore' in hv && 'grants' in hv) return
  const expected = 'a hypervisor, as openHypervisor and createDomain make it'
  const found = hv instanceof Promise ? 'a promise of one: is an "await" missing?' : String(hv)
  throw new TypeError(`"hv" expected ${expected}, got ${found}`)
}

/** DOMID_FIRST_RESERVED - 1: the highest domid a domain can have (xen.h). */
export const DOMID_MAX = 0x7fef
export const UINT32_MAX = 0xffff_ffff
