/** Parsers of the commands' arguments. commander reports a wrong argument and exits with code 2. */
import { parseMac } from '@xenkit/frames'
import { DOMID_MAX, UINT32_MAX } from '@xenkit/hypervisor'
import { VBD_BACKEND_TYPES, type VbdBackendType, parseVdev } from '@xenkit/vbd'
import type { VifRate } from '@xenkit/vif'
import { InvalidArgumentError } from 'commander'
import { parseMirrorPort, parseTunnel } from './mirror-target.ts'

/** Parses a decimal number of at most 9 digits. */
export function count(value: string): number {
  if (!/^\d{1,9}$/.test(value)) throw new InvalidArgumentError('expected a decimal number')
  return Number(value)
}

/** Parses a domain id. */
export function domid(value: string): number {
  if (!/^\d{1,5}$/.test(value) || Number(value) > DOMID_MAX) {
    throw new InvalidArgumentError(`expected a domain id, 0..${DOMID_MAX}: see "xl list"`)
  }
  return Number(value)
}

/** Parses the number of a network card. */
export function devid(value: string): number {
  const number = /^\d{1,10}$/.test(value) ? Number(value) : Number.NaN
  if (!(number <= UINT32_MAX)) {
    throw new InvalidArgumentError('expected the number of a card, from 0')
  }
  return number
}

/** Parses a network card's address. */
export function mac(value: string): Uint8Array {
  const bytes = parseMac(value)
  if (!bytes) throw new InvalidArgumentError('expected an address such as 00:16:3e:01:02:03')
  return bytes
}

/** Collects addresses that a guest may use. */
export const addresses = (value: string, before: readonly string[] = []): readonly string[] => [
  ...before,
  value,
]

const RATE_UNITS = { '': 1, K: 1e3, M: 1e6, G: 1e9 } as const
const RATE_PERIODS = { us: 1, ms: 1e3, s: 1e6 } as const
const DEFAULT_RATE_PERIOD_US = 50_000

/** Parses a rate as in xl's configuration: `10Mb/s`, `1MB/s@20ms`. */
export function rate(value: string): VifRate {
  const [, digits, unit = '', kind, periods, periodUnit = 'us'] =
    /^(\d{1,9})([KMG]?)([Bb])\/s(?:@(\d{1,6})(us|ms|s))?$/.exec(value) ?? []
  const perSecond =
    (Number(digits) * RATE_UNITS[unit as keyof typeof RATE_UNITS]) / (kind === 'b' ? 8 : 1)
  const periodUs =
    periods === undefined
      ? DEFAULT_RATE_PERIOD_US
      : Number(periods) * RATE_PERIODS[periodUnit as keyof typeof RATE_PERIODS]
  const bytes = Math.floor((perSecond * periodUs) / 1e6)
  if (!Number.isSafeInteger(bytes) || bytes < 1 || periodUs > UINT32_MAX) {
    throw new InvalidArgumentError('expected bits or bytes per second: 10Mb/s, or 1MB/s@20ms')
  }
  return { bytes, periodUs }
}

/** Parses the most bytes of a packet. */
export function mtu(value: string): number {
  const bytes = /^\d{2,5}$/.test(value) ? Number(value) : 0
  if (bytes < 68 || bytes > 65_521) throw new InvalidArgumentError('expected bytes, 68..65521')
  return bytes
}

/** Checks the port of a mirror. */
export function mirrorPort(value: string): string {
  if (!parseMirrorPort(value)) throw new InvalidArgumentError('expected card:3.0 or tap:NAME')
  return value
}

/** Checks the tunnel of a mirror. */
export function tunnel(value: string): string {
  if (parseTunnel(value)) return value
  throw new InvalidArgumentError('expected MAC/IP,MAC/IP of both ends, perhaps ,SESSION')
}

/** Parses the most queues of a card. */
export function queues(value: string): number {
  if (!/^[1-8]$/.test(value)) throw new InvalidArgumentError('expected a number of queues, 1..8')
  return Number(value)
}

/** Checks the name of a disk, such as xvda. */
export function vdev(value: string): string {
  try {
    parseVdev(value)
  } catch (error) {
    throw new InvalidArgumentError(error instanceof Error ? error.message : String(error))
  }
  return value
}

/** Parses the number of worker threads, within the limit of `serveVbd`. */
export function workers(value: string): number {
  if (!/^\d{1,2}$/.test(value) || Number(value) > 64) {
    throw new InvalidArgumentError('expected a number of threads, 0..64')
  }
  return Number(value)
}

/**
 * Collects the arguments of the program that `xenkit sim` runs. An option of `sim` among them was
 * probably meant for `sim`, so it is an error unless `--` precedes it.
 */
export function programArgument(value: string, before: readonly string[] = []): readonly string[] {
  if (/^--(writes|seed)(=|$)/.test(value) && !before.includes('--')) {
    const advice = 'put -- before options of the program that have the same name'
    throw new InvalidArgumentError(`Options of sim go before the program; ${advice}`)
  }
  return [...before, value]
}

const UNITS = { '': 1, K: 2 ** 10, M: 2 ** 20, G: 2 ** 30, T: 2 ** 40 } as const
const isUnit = (text: string): text is keyof typeof UNITS => text in UNITS

/**
 * Parses a size.
 * @returns sectors of 512 bytes
 */
export function size(value: string): number {
  const [, digits, unit = ''] = /^(\d{1,15})([KMGT]?)$/.exec(value) ?? []
  const sectors = isUnit(unit) ? (Number(digits) * UNITS[unit]) / 512 : Number.NaN
  if (!Number.isSafeInteger(sectors) || sectors < 1) {
    throw new InvalidArgumentError(
      'expected a size in bytes, a multiple of 512, or with K, M, G or T for powers of 1024: 10G',
    )
  }
  return sectors
}

/** Parses a list of backend types, separated by commas. */
export function backendTypes(value: string): VbdBackendType[] {
  return value.split(',').map((name) => {
    const type = VBD_BACKEND_TYPES.find((known) => known === name)
    if (!type) throw new InvalidArgumentError(`expected some of ${VBD_BACKEND_TYPES.join(',')}`)
    return type
  })
}

/** Accepts the format raw only. */
export function imageFormat(value: string): 'raw' {
  if (value !== 'raw') throw new InvalidArgumentError('expected raw: qemu-nbd serves the others')
  return value
}
