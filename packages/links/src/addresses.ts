/** MAC and IP addresses as text and as bytes. */
import { isIPv4, isIPv6 } from 'node:net'
import { parseMac } from '@xenkit/frames'
import { u16 } from './bytes.ts'

/** Bytes of a MAC address as in 00:16:3e:01:02:03. @throws RangeError if it isn't one */
export function expectMac(text: string): Uint8Array {
  const mac = parseMac(text)
  if (!mac) {
    throw new RangeError(`expected a MAC address such as "00:16:3e:01:02:03", got "${text}"`)
  }
  return mac
}

/** IP addresses that have their first `prefix` bits in common with `bytes`. */
export interface IpRange {
  /** Four bytes for IPv4, 16 for IPv6. */
  readonly bytes: Uint8Array
  readonly prefix: number
}

/**
 * Reads an IPv4 or IPv6 address, or a range as in 10.0.0.0/24.
 * @throws RangeError if it isn't one
 */
export function parseIpRange(text: string): IpRange {
  const [, address = '', digits] = /^([^/]*)(?:\/(\d{1,3}))?$/.exec(text) ?? []
  const bytes = isIPv4(address) ? ipv4Bytes(address) : isIPv6(address) ? ipv6Bytes(address) : []
  const bits = bytes.length * 8
  const prefix = digits === undefined ? bits : Number(digits)
  if (bits === 0 || prefix > bits) {
    throw new RangeError(`expected an IP address or range such as "10.0.0.0/24", got "${text}"`)
  }
  return { bytes: Uint8Array.from(bytes), prefix }
}

/** Bytes of an IPv4 address. @throws RangeError if it isn't one */
export function parseIpv4(text: string): Uint8Array {
  if (!isIPv4(text)) throw new RangeError(`expected an IPv4 address, got "${text}"`)
  return Uint8Array.from(ipv4Bytes(text))
}

const ipv4Bytes = (text: string): number[] => text.split('.').map(Number)

/** @param text an address that node:net has checked */
function ipv6Bytes(text: string): number[] {
  const [plain = ''] = text.split('%')
  const tail = /[\d.]+$/.exec(plain)?.[0] ?? ''
  const [a = 0, b = 0, c = 0, d = 0] = tail.includes('.') ? ipv4Bytes(tail) : []
  const hex = tail.includes('.')
    ? `${plain.slice(0, -tail.length)}${((a << 8) | b).toString(16)}:${((c << 8) | d).toString(16)}`
    : plain
  const [head, rest] = hex.split('::').map((part) => (part === '' ? [] : part.split(':')))
  const words = head ?? []
  const zeroes = rest === undefined ? 0 : 8 - words.length - rest.length
  return [...words, ...Array.from({ length: zeroes }, () => '0'), ...(rest ?? [])].flatMap(
    (word) => {
      const value = Number.parseInt(word, 16)
      return [value >> 8, value & 0xff]
    },
  )
}

/** An IP address as text, from memory. IPv6 addresses are as RFC 5952 writes them. */
export function ipText(memory: Uint8Array, at: number, bytes: 4 | 16): string {
  if (bytes === 4) return memory.subarray(at, at + 4).join('.')
  const words = Array.from({ length: 8 }, (_, i) => u16(memory, at + 2 * i))
  let longest = 0
  let first = 0
  for (let i = 0, zeroes = 0; i < 8; i++) {
    zeroes = words[i] === 0 ? zeroes + 1 : 0
    if (zeroes > longest) [longest, first] = [zeroes, i - zeroes + 1]
  }
  const hex = words.map((word) => word.toString(16))
  if (longest < 2) return hex.join(':')
  return `${hex.slice(0, first).join(':')}::${hex.slice(first + longest).join(':')}`
}
