/** Follows xen/include/public/io/protocols.h: whose compiler laid out the structures of a ring. */

/** Values of the frontend's `protocol` node. */
export const XEN_IO_PROTO_ABI = {
  x86_64: 'x86_64-abi',
  x86_32: 'x86_32-abi',
  arm: 'arm-abi',
} as const

export type Abi = keyof typeof XEN_IO_PROTO_ABI
