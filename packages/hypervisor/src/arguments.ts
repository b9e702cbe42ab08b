/** Checks of a caller's arguments. They throw synchronously, before anything else happens. */
import type { Hypervisor } from './port.ts'

/**
 * Checks that an argument is an integer within a range.
 * @param name the argument's name, for the error text
 * @param min lowest value allowed, inclusive
 * @param max highest value allowed, inclusive
 * @throws TypeError if `value` isn't an integer
 * @throws RangeError if `value` lies outside `min..max`
 */
export function expectInteger(name: string, value: number, min: number, max: number): void {
  if (!Number.isInteger(value)) {
    throw new TypeError(`"${name}" expected an integer ${min}..${max}, got ${String(value)}`)
  }
  if (value < min || value > max) {
    throw new RangeError(`"${name}" expected an integer ${min}..${max}, got ${value}`)
  }
}

/**
 * Checks that an argument is a hypervisor, not a promise of one.
 * @throws TypeError if it isn't a hypervisor; for a promise the text names the missing `await`
 */
export function expectHypervisor(hv: unknown): asserts hv is Hypervisor {
  if (typeof hv === 'object' && hv !== null && 'xenstore' in hv && 'grants' in hv) return
  const expected = 'a hypervisor, as openHypervisor and createDomain make it'
  const found = hv instanceof Promise ? 'a promise of one: is an "await" missing?' : String(hv)
  throw new TypeError(`"hv" expected ${expected}, got ${found}`)
}

/** DOMID_FIRST_RESERVED - 1: the highest domid a domain can have (xen.h). */
export const DOMID_MAX = 0x7fef
/** Highest gref, event-channel port and ring index. */
export const UINT32_MAX = 0xffff_ffff
