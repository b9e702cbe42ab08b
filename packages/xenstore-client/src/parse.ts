/**
 * Strict parsers for node values, which another domain may have written: pure, bounded, and
 * `undefined` for anything that isn't exactly what is expected. (parseInt would take "12abc" for
 * 12.)
 */

/** Digits of Number.MAX_SAFE_INTEGER. */
const DIGITS_MAX = 16
const DECIMAL = /^(?:0|[1-9]\d*)$/

/**
 * A decimal number without sign, space or leading zeros.
 * @param o.max inclusive, at most 2^53 - 1
 * @param o.min inclusive, 0 unless told
 */
export function parseDecimal(
  value: string,
  o: { readonly max: number; readonly min?: number },
): number | undefined {
  if (value.length > DIGITS_MAX || !DECIMAL.test(value)) return undefined
  const number = Number(value)
  return number >= (o.min ?? 0) && number <= o.max ? number : undefined
}

/** `1` or `0`. */
export function parseFlag(value: string): boolean | undefined {
  if (value === '1') return true
  return value === '0' ? false : undefined
}
