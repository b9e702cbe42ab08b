/** What a payload says: the ways in which C xenstored reads it. */
import { latin1 } from './latin1.ts'
import { Refusal } from './refusal.ts'

/** The NUL-terminated strings; what follows the last NUL isn't one. */
export const strings = (payload: Uint8Array): string[] => latin1(payload).split('\0').slice(0, -1)

/** The payload as exactly one NUL-terminated string. */
export function oneString(payload: Uint8Array): string {
  const nul = payload.indexOf(0)
  if (nul < 0 || nul !== payload.length - 1) throw new Refusal('EINVAL')
  return latin1(payload.subarray(0, nul))
}

const LONG_MAX = 2n ** 63n - 1n

/** A long, where C's conversions stop, that is put into an int. */
const asInt = (value: bigint): number =>
  Number(BigInt.asIntN(32, value > LONG_MAX ? LONG_MAX : value < ~LONG_MAX ? ~LONG_MAX : value))

/**
 * The number that C's `atoi` sees on a 64-bit machine: 0 where there is none, the low 32 bits of
 * what is too large.
 */
export function atoi(text: string): number {
  const digits = /^[\t-\r ]*([-+]?\d+)/.exec(text)?.[1]
  if (digits === undefined) return 0
  return asInt(BigInt(digits))
}

/**
 * The number that C's `strtol` sees in any of its notations, as an int; undefined if there is none,
 * or more than that.
 */
export function strtol(text: string): number | undefined {
  const [, sign, digits] = /^[\t-\r ]*([-+]?)(0x[0-9a-f]+|0[0-7]*|[1-9]\d*)$/i.exec(text) ?? []
  if (digits === undefined) return undefined
  const value = BigInt(/^0\d/.test(digits) ? `0o${digits}` : digits)
  return asInt(sign === '-' ? -value : value)
}

/** A domid where 4.17 reads one: nothing is refused. */
export const anyDomid = (text: string): number => atoi(text) >>> 0

/** A domid, or a special one, where only later releases read one. */
export function domidOf(text: string): number {
  if (!/^\d{0,5}$/.test(text) || Number(text) > 0xffff) throw new Refusal('EINVAL')
  return Number(text)
}
