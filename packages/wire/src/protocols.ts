/**
 * Names of the ABIs in which a ring's structures may be laid out. Follows
 * xen/include/public/io/protocols.h.
 */

/** Values of the frontend's `protocol` node. */
export const XEN_IO_PROTO_ABI = {
  x86_64: 'x86_64-abi',
  x86_32: 'x86_32-abi',
  arm: 'arm-abi',
} as const

/** ABI of the frontend, which lays out the ring's structures. */
export type Abi = keyof typeof XEN_IO_PROTO_ABI
