/**
 * Network packets, and the requests that configure a network device. Follows
 * xen/include/public/io/netif.h. The layouts are the same in every ABI.
 *
 * A packet takes one or more slots, in this order: its first part, any extra infos, its other
 * parts. On the receive ring, an extra info takes the slot of a response. The frontend matches
 * responses by slot, not by id, so a response must be in the slot of its request.
 */
import { cstruct } from './cstruct.ts'
import { array, i16, u16, u32, u8 } from './ctypes.ts'
import { cunion } from './cunion.ts'
import { ringMessages } from './ring.ts'

/** Slots per packet that every backend accepts. */
export const XEN_NETIF_NR_SLOTS_MIN = 18
/** Largest packet on the transmit ring, bytes. */
export const XEN_NETIF_MAX_TX_SIZE = 0xffff

/** Flags of a transmit request. */
export const NETTXF = {
  /**
   * The packet's checksum field is blank, and must be filled in before the packet leaves the host.
   */
  csum_blank: 1 << 0,
  /**
   * The packet's data match its checksum. With `csum_blank` too, the sender is trusted to have sent
   * correct data without a checksum.
   */
  data_validated: 1 << 1,
  /** The packet continues in the next request. */
  more_data: 1 << 2,
  /** An extra info follows this slot. */
  extra_info: 1 << 3,
} as const

/** Flags of a receive response. The first two bits are swapped, compared with NETTXF. */
export const NETRXF = {
  data_validated: 1 << 0,
  csum_blank: 1 << 1,
  more_data: 1 << 2,
  extra_info: 1 << 3,
  /** Marks a GSO packet in the old way, used before extra infos existed; deprecated. */
  gso_prefix: 1 << 4,
} as const

/** Status of a response. A successful receive response holds its size in bytes in place of OKAY. */
export const NETIF_RSP = {
  DROPPED: -2,
  ERROR: -1,
  OKAY: 0,
  /** The slot holds no response, because it belonged to an extra info of the transmit ring. */
  NULL: 1,
} as const

/** Types of an extra info. */
export const XEN_NETIF_EXTRA_TYPE = {
  /** Reserved; never sent. */
  NONE: 0,
  GSO: 1,
  /**
   * Adds an address to the backend's multicast filter. The packet that carries it is a dummy, which
   * must not be sent on.
   */
  MCAST_ADD: 2,
  /** Removes an address from the filter; the packet that carries it is a dummy too. */
  MCAST_DEL: 3,
  HASH: 4,
  /** Space before the packet's data, for XDP programs. Defined in Linux's netif.h, not in Xen's. */
  XDP: 5,
} as const

/** Flags of an extra info. `MORE`: another extra info follows. */
export const XEN_NETIF_EXTRA_FLAG = { MORE: 1 << 0 } as const

/** Protocol by which a GSO packet (a large one, to be split) must be segmented. */
export const XEN_NETIF_GSO_TYPE = { NONE: 0, TCPV4: 1, TCPV6: 2 } as const

/**
 * Bits that select which parts of a packet a hash covers. An extra info holds the number of one
 * bit, 0..3.
 */
export const XEN_NETIF_CTRL_HASH_TYPE = {
  IPV4: 1 << 0,
  IPV4_TCP: 1 << 1,
  IPV6: 1 << 2,
  IPV6_TCP: 1 << 3,
} as const

/** Hash algorithms. `NONE`: the backend distributes packets over queues in its own way. */
export const XEN_NETIF_CTRL_HASH_ALGORITHM = { NONE: 0, TOEPLITZ: 1 } as const

/** Types of a control request; netif.h says what `data` holds for each. */
export const XEN_NETIF_CTRL_TYPE = {
  INVALID: 0,
  GET_HASH_FLAGS: 1,
  SET_HASH_FLAGS: 2,
  SET_HASH_KEY: 3,
  GET_HASH_MAPPING_SIZE: 4,
  SET_HASH_MAPPING_SIZE: 5,
  SET_HASH_MAPPING: 6,
  SET_HASH_ALGORITHM: 7,
  GET_GREF_MAPPING_SIZE: 8,
  ADD_GREF_MAPPING: 9,
  DEL_GREF_MAPPING: 10,
} as const

/** Status of a control response and of a `netif.gref`. */
export const XEN_NETIF_CTRL_STATUS = {
  SUCCESS: 0,
  NOT_SUPPORTED: 1,
  INVALID_PARAMETER: 2,
  BUFFER_OVERFLOW: 3,
} as const

/** Flags of a `netif.gref`. */
export const XEN_NETIF_CTRLF_GREF = { readonly: 1 << 0 } as const

const txRequest = cstruct('netif_tx_request', {
  gref: u32,
  /** First byte within the granted page. */
  offset: u16,
  /** Bits of NETTXF. */
  flags: u16,
  /** Chosen by the frontend, returned in the response. */
  id: u16,
  /**
   * In a packet's first request: bytes of the whole packet. In later requests: bytes of this part.
   */
  size: u16,
})

const txResponse = cstruct('netif_tx_response', {
  id: u16,
  /** One of `NETIF_RSP`. */
  status: i16,
})

const rxRequest = cstruct('netif_rx_request', {
  /** Chosen by the frontend, returned in the response. */
  id: u16,
  pad: u16,
  /** Page that the backend writes to. */
  gref: u32,
})

const rxResponse = cstruct('netif_rx_response', {
  id: u16,
  /** First byte of the data within the page. */
  offset: u16,
  /** Bits of NETRXF. */
  flags: u16,
  /** Bytes of data in this page, or an error of NETIF_RSP. */
  status: i16,
})

const gso = cstruct('netif_extra_gso', {
  /** Largest payload of a segment, bytes. */
  size: u16,
  /** One of XEN_NETIF_GSO_TYPE. */
  type: u8,
  pad: u8,
  /** Always 0: no feature is defined. */
  features: u16,
})

const mcast = cstruct('netif_extra_mcast', {
  /** A MAC address. */
  addr: array(u8, 6),
})

const hash = cstruct('netif_extra_hash', {
  /** Number of one bit of XEN_NETIF_CTRL_HASH_TYPE. */
  type: u8,
  /** One of XEN_NETIF_CTRL_HASH_ALGORITHM. */
  algorithm: u8,
  /** The hash, least significant byte first. */
  value: array(u8, 4),
})

const xdp = cstruct('netif_extra_xdp', {
  /** Bytes left free before the packet's data. */
  headroom: u16,
  pad: array(u16, 2),
})

/** The extra info's `type` selects the member. */
const extra = cunion('netif_extra_u', { gso, mcast, hash, xdp, pad: array(u16, 3) })

const extraInfo = cstruct('netif_extra_info', {
  /** One of XEN_NETIF_EXTRA_TYPE. */
  type: u8,
  /** Bits of XEN_NETIF_EXTRA_FLAG. */
  flags: u8,
  u: extra,
})

const ctrlRequest = cstruct('xen_netif_ctrl_request', {
  /** Chosen by the frontend, returned in the response. */
  id: u16,
  /** One of XEN_NETIF_CTRL_TYPE. */
  type: u16,
  data: array(u32, 3),
})

const ctrlResponse = cstruct('xen_netif_ctrl_response', {
  id: u16,
  /** The type of the request that this answers. */
  type: u16,
  /** One of XEN_NETIF_CTRL_STATUS. */
  status: u32,
  data: u32,
})

const gref = cstruct('xen_netif_gref', {
  ref: u32,
  /** Bits of XEN_NETIF_CTRLF_GREF. */
  flags: u16,
  /** Set by the backend: one of XEN_NETIF_CTRL_STATUS. */
  status: u16,
})

/** The network protocol's messages. */
export const netif = {
  /** Ring of packets from the frontend. */
  tx: ringMessages({ request: txRequest, response: txResponse }),
  /** Ring of packets to the frontend. */
  rx: ringMessages({ request: rxRequest, response: rxResponse }),
  /** Ring of requests that configure hashing and static grants. */
  ctrl: ringMessages({ request: ctrlRequest, response: ctrlResponse }),
  /** Extra info about a packet, which takes the slot of a transmit request or receive response. */
  extraInfo,
  /** The union within `extraInfo`, and its members. */
  extra,
  gso,
  mcast,
  hash,
  xdp,
  /**
   * Entry of the list of grants whose page's reference ADD_GREF_MAPPING and DEL_GREF_MAPPING pass.
   */
  gref,
} as const
