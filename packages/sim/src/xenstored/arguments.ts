/** Parsers of a request's payload, which accept what C xenstored accepts. */
import { latin1 } from './latin1.ts'
import { Refusal } from './refusal.ts'

/** Splits NUL-terminated strings; bytes after the last NUL are ignored. */
export const strings = (payload: Uint8Array): string[] => latin1(payload).split('\0').slice(0, -1)

/**
 * Returns the payload as exactly one NUL-terminated string.
 * @throws Refusal EINVAL if it is something else
 */
export function oneString(payload: Uint8Array): string {
  const nul = payload.indexOf(0)
  if (nul < 0 || nul !== payload.length - 1) throw new Refusal('EINVAL')
  return latin1(payload.subarray(0, nul))
}

const LONG_MAX = 2n ** 63n - 1n

/** Converts to an int as C does: first limited to the range of a long, then its low 32 bits. */
const asInt = (value: bigint): number =>
  Number(BigInt.asIntN(32, value > LONG_MAX ? LONG_MAX : value < ~LONG_MAX ? ~LONG_MAX : value))

/**
 * Returns the number that C's `atoi` returns on a 64-bit machine: 0 if there is none, the low 32
 * bits if it is too large.
 */
export function atoi(text: string): number {
  const digits = /^[\t-\r ]*([-+]?\d+)/.exec(text)?.[1]
  if (digits === undefined) return 0
  return asInt(BigInt(digits))
}

/**
 * Returns the number that C's `strtol` returns in any of its notations, as an int; undefined if the
 * text isn't exactly one number.
 */
export function strtol(text: string): number | undefined {
  const [, sign, digits] = /^[\t-\r ]*([-+]?)(0x[0-9a-f]+|0[0-7]*|[1-9]\d*)$/i.exec(text) ?? []
  if (digits === undefined) return undefined
  const value = BigInt(/^0\d/.test(digits) ? `0o${digits}` : digits)
  return asInt(sign === '-' ? -value : value)
}

/** Parses a domid as C xenstored 4.17 does in its own requests: any text is accepted. */
export const anyDomid = (text: string): number => atoi(text) >>> 0

/**
 * Parses a domid, which may be a special one, in requests that only releases after 4.17 have.
 * @throws Refusal EINVAL
 */
export function domidOf(text: string): number {
  if (!/^\d{0,5}$/.test(text) || Number(text) > 0xffff) throw new Refusal('EINVAL')
  return Number(text)
}
