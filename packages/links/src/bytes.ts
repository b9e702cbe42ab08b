/** Numbers in network byte order. Bytes past the end of the memory read as 0. */

export const u16 = (memory: Uint8Array, at: number): number =>
  ((memory[at] ?? 0) << 8) | (memory[at + 1] ?? 0)

export const u32 = (memory: Uint8Array, at: number): number =>
  ((u16(memory, at) << 16) | u16(memory, at + 2)) >>> 0

/** Writes what `u16` reads. */
export const setU16 = (memory: Uint8Array, at: number, value: number): void => {
  memory[at] = value >>> 8
  memory[at + 1] = value
}

export const setU32 = (memory: Uint8Array, at: number, value: number): void => {
  setU16(memory, at, value >>> 16)
  setU16(memory, at + 2, value & 0xffff)
}
