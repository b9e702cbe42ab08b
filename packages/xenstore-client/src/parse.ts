/**
 * Strict parsers for node values that another domain may have written. They are pure and bounded,
 * and return `undefined` for anything but the exact form. (parseInt would read "12abc" as 12.)
 */

/** Digits of Number.MAX_SAFE_INTEGER. */
const DIGITS_MAX = 16
const DECIMAL = /^(?:0|[1-9]\d*)$/

/**
 * Parses a decimal number without sign, space or leading zeros.
 * @param o.max highest value, inclusive, at most 2^53 - 1
 * @param o.min lowest value, inclusive, default 0
 * @returns undefined for any other text
 */
export function parseDecimal(
  value: string,
  o: { readonly max: number; readonly min?: number },
): number | undefined {
  if (value.length > DIGITS_MAX || !DECIMAL.test(value)) return undefined
  const number = Number(value)
  return number >= (o.min ?? 0) && number <= o.max ? number : undefined
}

/**
 * Parses `1` or `0`.
 * @returns undefined for any other text
 */
export function parseFlag(value: string): boolean | undefined {
  if (value === '1') return true
  return value === '0' ? false : undefined
}
