/**
 * AES-256-XTS (IEEE 1619) of consecutive sectors of 512 bytes, as in dm-crypt's aes-xts-plain64:
 * the tweak is the sector's number, 64 bits, little-endian.
 *
 * node:crypto has aes-256-xts, but needs a cipher object for each sector: 44 us for 4 KiB. This
 * class encrypts all sectors with one AES call and XORs the tweaks around it: 20 us, and a quarter
 * of node:crypto's time from 64 KiB on (Node 20).
 */
import { type Cipher, type Decipher, createCipheriv, createDecipheriv } from 'node:crypto'

const WORDS_OF_SECTOR = 128
/** Feedback of a doubling in GF(2^128): XORed in when a bit is shifted out. */
const POLYNOMIAL = 0x87

export class AesXts {
  readonly #encrypt: Cipher
  readonly #decrypt: Decipher
  readonly #tweak: Cipher

  /** @param key 64 bytes: the key of the data, then the key of the tweaks */
  constructor(key: Uint8Array) {
    const [data, tweak] = [key.subarray(0, 32), key.subarray(32)]
    // ECB keeps no state between calls, so each object can be reused.
    this.#encrypt = createCipheriv('aes-256-ecb', data, null).setAutoPadding(false)
    this.#decrypt = createDecipheriv('aes-256-ecb', data, null).setAutoPadding(false)
    this.#tweak = createCipheriv('aes-256-ecb', tweak, null).setAutoPadding(false)
  }

  /**
   * Encrypts whole sectors, starting with the number `sector`.
   * @param data is overwritten
   */
  encrypt(sector: number, data: Uint32Array): Uint8Array {
    return this.#crypt(this.#encrypt, sector, data)
  }

  /** Decrypts whole sectors, starting with the number `sector`; overwrites `data`. */
  decrypt(sector: number, data: Uint32Array): Uint8Array {
    return this.#crypt(this.#decrypt, sector, data)
  }

  #crypt(aes: Cipher | Decipher, sector: number, data: Uint32Array): Uint8Array {
    const tweaks = this.#tweaks(sector, data.length / WORDS_OF_SECTOR)
    xor(data, tweaks)
    const result = words(aes.update(bytes(data)))
    xor(result, tweaks)
    return bytes(result)
  }

  /**
   * The tweak of each 16-byte block. A sector's first tweak is its encrypted number; each further
   * tweak is the previous one doubled.
   */
  #tweaks(sector: number, sectors: number): Uint32Array {
    const numbers = new Uint32Array(sectors * 4)
    for (let i = 0; i < sectors; i++) {
      numbers[i * 4] = sector + i
      numbers[i * 4 + 1] = Math.floor((sector + i) / 2 ** 32)
    }
    const first = words(this.#tweak.update(bytes(numbers)))
    const tweaks = new Uint32Array(sectors * WORDS_OF_SECTOR)
    for (let i = 0, at = 0; i < first.length; i += 4) {
      let [a = 0, b = 0, c = 0, d = 0] = [first[i], first[i + 1], first[i + 2], first[i + 3]]
      for (const end = at + WORDS_OF_SECTOR; at < end; at += 4) {
        tweaks[at] = a
        tweaks[at + 1] = b
        tweaks[at + 2] = c
        tweaks[at + 3] = d
        const carry = d >>> 31
        d = (d << 1) | (c >>> 31)
        c = (c << 1) | (b >>> 31)
        b = (b << 1) | (a >>> 31)
        a = (a << 1) ^ (carry * POLYNOMIAL)
      }
    }
    return tweaks
  }
}

function xor(data: Uint32Array, tweaks: Uint32Array): void {
  for (let i = 0; i < data.length; i++) data[i] = (data[i] ?? 0) ^ (tweaks[i] ?? 0)
}

const bytes = ({ buffer, byteOffset, byteLength }: Uint32Array): Uint8Array =>
  new Uint8Array(buffer, byteOffset, byteLength)

/**
 * Returns the bytes as 32-bit words: a view if they are aligned, else a copy. A Buffer may start at
 * any address.
 */
function words({ buffer, byteOffset, byteLength }: Uint8Array): Uint32Array {
  return byteOffset % 4 === 0
    ? new Uint32Array(buffer, byteOffset, byteLength / 4)
    : new Uint32Array(buffer.slice(byteOffset, byteOffset + byteLength))
}
