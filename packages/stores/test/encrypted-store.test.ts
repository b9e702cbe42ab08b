/** Encryption: IEEE 1619's vectors, OpenSSL's own XTS, and an array on top of it. */
import { createCipheriv, randomBytes } from 'node:crypto'
import fc from 'fast-check'
import { expect, test } from 'vitest'
import type { BlockStore } from '@xenkit/block-store'
import { encryptedStore, memoryStore, sparseStore } from '../src/index.ts'
import { jitter } from './support/jitter.ts'
import { expectModelled } from './support/model.ts'

const KEY = Buffer.from(
  '27182818284590452353602874713526624977572470936999595749669676273141592653589793238462643383279502884197169399375105820974944592',
  'hex',
)

/** Returns the ciphertext that `encryptedStore` writes to its base for this plaintext. */
async function cipherText(
  sector: number,
  plain: Uint8Array,
  key: Uint8Array = KEY,
): Promise<Buffer> {
  const store = sparseStore(2 ** 43)
  await encryptedStore(store, { key }).write?.(sector, [plain])
  const written = Buffer.alloc(plain.length)
  void store.read(sector, [written])
  return written
}

// IEEE 1619's vectors 10 and 14, whose plaintext is 512 bytes 00 01 .. ff 00 01 .. ff.
test.each([
  [
    0xff,
    '1c3b3a102f770386e4836c99e370cf9bea00803f5e482357a4ae12d414a3e63b',
    '773dad38014bd2092fa755c824bb5e54c4f36ffda9fcea70b9c6e693e148c151',
  ],
  [
    0xff_ffff_ffff,
    '64497e5a831e4a932c09be3e5393376daa599548b816031d224bbf50a818ed23',
    '6975be5e0b4efce51cd3e70c25a1fbbbd609d273ad5b0d59631c531f6a0a57b9',
  ],
])('sector %i of IEEE 1619', async (sector, begins, ends) => {
  const got = (
    await cipherText(
      sector,
      new Uint8Array(512).map((_, i) => i),
    )
  ).toString('hex')
  expect([got.slice(0, 64), got.slice(-64)]).toEqual([begins, ends])
})

test('many sectors are those of aes-256-xts, each with its number', async () => {
  const sector = fc.oneof(
    fc.nat(1000),
    fc.integer({ min: 2 ** 32 - 5, max: 2 ** 32 + 5 }),
    fc.integer({ min: 0, max: 2 ** 43 - 20 }),
  )
  const bytes = (length: number): fc.Arbitrary<Uint8Array> =>
    fc.uint8Array({ minLength: length, maxLength: length })
  await fc.assert(
    fc.asyncProperty(
      sector,
      fc.integer({ min: 1, max: 16 }),
      bytes(64),
      fc.nat(255),
      async (first, count, key, fill) => {
        key[0] = (key[32] ?? 0) ^ 1
        const plain = new Uint8Array(count * 512).map((_, i) => fill + i * 7)
        const expected = Array.from({ length: count }, (_, i) => {
          const tweak = Buffer.alloc(16)
          tweak.writeBigUInt64LE(BigInt(first + i))
          return createCipheriv('aes-256-xts', key, tweak).update(
            plain.subarray(i * 512, (i + 1) * 512),
          )
        })
        expect(Buffer.compare(await cipherText(first, plain, key), Buffer.concat(expected))).toBe(0)
      },
    ),
  )
})

test('the store reads as an array, its base holds none of the plain text', async () => {
  const memory = memoryStore(300)
  const key = randomBytes(64)
  const store = encryptedStore(jitter(memory), { key })
  // Sectors that were never written decrypt to noise, so write every sector first.
  await store.write?.(0, [new Uint8Array(300 * 512)])
  const model = await expectModelled({ store })
  for (let sector = 0; sector < 300; sector++) {
    const [above, beneath] = [model, memory.bytes].map((bytes) =>
      bytes.subarray(sector * 512, sector * 512 + 512),
    )
    expect(above && beneath && Buffer.compare(above, beneath)).not.toBe(0)
  }
  // With another key, the same sectors decrypt to other data.
  const other = new Uint8Array(512)
  await encryptedStore(memory, { key: randomBytes(64) }).read(0, [other])
  expect(Buffer.compare(other, model.subarray(0, 512))).not.toBe(0)
})

test('the key is copied', async () => {
  const key = Buffer.from(KEY)
  const store = encryptedStore(memoryStore(8), { key })
  await store.write?.(0, [new Uint8Array(512).fill(5)])
  key.fill(0)
  const got = new Uint8Array(512)
  await store.read(0, [got])
  expect(got.every((byte) => byte === 5)).toBe(true)
})

test('discards are passed on if allowed, and not offered otherwise', async () => {
  const memory = memoryStore(new Uint8Array(4096).fill(1))
  expect(encryptedStore(memory, { key: KEY })).not.toHaveProperty('discard')
  expect(encryptedStore(memory, { key: KEY })).not.toHaveProperty('discardLimits')
  const store = encryptedStore(memory, { key: KEY, allowDiscards: true })
  expect(store.discardLimits).toEqual(memory.discardLimits)
  await store.discard?.(2, 1, { secure: false })
  expect(memory.bytes.findIndex((byte) => byte === 0)).toBe(1024)
})

test('over a read-only base the store is read-only', () => {
  const { sectors, read } = memoryStore(8)
  expect(Object.keys(encryptedStore({ sectors, read }, { key: KEY })).toSorted()).toEqual([
    'read',
    'sectors',
  ])
})

test('a store that returns short is an error, not noise', async () => {
  const short: BlockStore = {
    sectors: 8,
    read: () => ({ bytesRead: 512 }),
    write: () => ({ bytesWritten: 512 }),
  }
  const store = encryptedStore(short, { key: KEY })
  await expect(store.read(0, [new Uint8Array(1024)])).rejects.toThrow(/moved 512 of 1024/)
  await expect(store.write?.(0, [new Uint8Array(1024)])).rejects.toThrow(/moved 512 of 1024/)
})

test('a key of a wrong length, or of equal halves', () => {
  expect(() => encryptedStore(memoryStore(8), { key: new Uint8Array(32) })).toThrow(
    /"key" expected 64 bytes, got 32/,
  )
  expect(() => encryptedStore(memoryStore(8), { key: new Uint8Array(64).fill(3) })).toThrow(
    /equal halves/,
  )
})
