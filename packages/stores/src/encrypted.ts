/**
 * A disk whose store holds only ciphertext: AES-256-XTS, as in dm-crypt's plain mode. The same disk
 * opens with
 * `cryptsetup open --type plain --cipher aes-xts-plain64 --key-size 512 --key-file KEY DEVICE
 * NAME`.
 *
 * As with dm-crypt, content is hidden, but not which sectors were written and when. Ciphertext that
 * was changed in the store reads as other data, not as an error.
 */
import { timingSafeEqual } from 'node:crypto'
import { type BlockStore, LEAVES_BUFFERS, byteLength } from '@xenkit/block-store'
import { AesXts } from './aes-xts.ts'
import { gather, scatter } from './buffers.ts'
import { isWritable, layerOn, whole } from './layer.ts'

/** Options of `encryptedStore`. */
export interface EncryptionOptions {
  /** 64 bytes; its halves are two keys and must differ. The store copies it. */
  readonly key: Uint8Array
  /**
   * Pass discards to the store, which then knows which sectors are unused. They read as noise.
   * Default false, as dm-crypt's allow_discards.
   */
  readonly allowDiscards?: boolean
}

/**
 * Encrypts all data that goes to a store.
 * @throws RangeError for a key of another length, or of equal halves
 */
export function encryptedStore(
  base: BlockStore,
  { key, allowDiscards = false }: EncryptionOptions,
): BlockStore {
  if (key.length !== 64) throw new RangeError(`"key" expected 64 bytes, got ${key.length}`)
  if (timingSafeEqual(key.subarray(0, 32), key.subarray(32))) {
    throw new RangeError('"key" has equal halves: aes-xts needs two keys')
  }
  const xts = new AesXts(key)
  const { flush, discard } = base
  return layerOn(base, {
    async read(sector, into) {
      const data = new Uint32Array(byteLength(into) / 4)
      await whole(base.read(sector, [new Uint8Array(data.buffer)]), data.byteLength)
      return { bytesRead: scatter(xts.decrypt(sector, data), into) }
    },
    ...(isWritable(base) && {
      write: Object.assign(async (sector: number, from: readonly Uint8Array[]) => {
        const data = new Uint32Array(byteLength(from) / 4)
        gather(from, new Uint8Array(data.buffer))
        await whole(base.write(sector, [xts.encrypt(sector, data)]), data.byteLength)
      }, LEAVES_BUFFERS),
    }),
    ...(flush && { flush: () => flush.call(base) }),
    ...(discard && allowDiscards && { discard: discard.bind(base) }),
  })
}
