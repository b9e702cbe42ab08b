export {
  BLKIF_DISCARD_SECURE,
  BLKIF_MAX_INDIRECT_PAGES_PER_REQUEST,
  BLKIF_MAX_SEGMENTS_PER_REQUEST,
  BLKIF_OP,
  BLKIF_RSP,
  BLKIF_SECTOR_SIZE,
  BLKIF_SEGMENTS_PER_INDIRECT_PAGE,
  type BlkifLayout,
  VDISK,
  blkif,
} from './blkif.ts'
export { XENCONSOLE_CONNECTED, XENCONSOLE_DISCONNECTED, xenconsInterface } from './console.ts'
export {
  CStruct,
  type Fields,
  type FieldsOf,
  type FieldsToEncode,
  cstruct,
  netstruct,
} from './cstruct.ts'
export {
  type Aligned,
  CArraySchema,
  CPaddingSchema,
  type CType,
  Int64Schema,
  alignOf,
  array,
  i16,
  i32,
  i64,
  i64Align4,
  i8,
  padding,
  sizeOf,
  u16,
  u32,
  u64,
  u64Align4,
  u8,
} from './ctypes.ts'
export { CUnion, type Members, UnionValue, cunion } from './cunion.ts'
export {
  GNTST,
  GNTTAB_NR_RESERVED_ENTRIES,
  GNTTAB_RESERVED_CONSOLE,
  GNTTAB_RESERVED_XENSTORE,
  GTF,
  gntstMeaning,
  gntstName,
  grant_entry_v1,
} from './grant-table.ts'
export {
  NETIF_RSP,
  NETRXF,
  NETTXF,
  XEN_NETIF_CTRLF_GREF,
  XEN_NETIF_CTRL_HASH_ALGORITHM,
  XEN_NETIF_CTRL_HASH_TYPE,
  XEN_NETIF_CTRL_STATUS,
  XEN_NETIF_CTRL_TYPE,
  XEN_NETIF_EXTRA_FLAG,
  XEN_NETIF_EXTRA_TYPE,
  XEN_NETIF_GSO_TYPE,
  XEN_NETIF_MAX_TX_SIZE,
  XEN_NETIF_NR_SLOTS_MIN,
  netif,
} from './netif.ts'
export { type Abi, XEN_IO_PROTO_ABI } from './protocols.ts'
export {
  RING_OFFSET,
  type RingMessages,
  XEN_PAGE_SIZE,
  ringMessages,
  ringSlots,
  sring,
} from './ring.ts'
export {
  DOMID_ANY,
  DOMID_FIRST_RESERVED,
  DOMID_INVALID,
  DOMID_SELF,
  EVTCHN_FIFO_NR_CHANNELS,
  EVTCHN_PORT_INVALID,
  NR_VIRQS,
  VIRQ,
} from './xen.ts'
export { XenbusState, xenbusStateName } from './xenbus.ts'
export {
  XENSTORE_ABS_PATH_MAX,
  XENSTORE_PAYLOAD_MAX,
  XENSTORE_REL_PATH_MAX,
  XS,
  XSD_ERRORS,
  type XsdError,
  xsTypeName,
  xsdSockmsg,
} from './xs-wire.ts'
export {
  XENSTORE_CONNECTED,
  XENSTORE_ERROR,
  XENSTORE_RECONNECT,
  XENSTORE_RING_SIZE,
  XENSTORE_SERVER_FEATURE,
  xenstoreDomainInterface,
} from './xs-ring.ts'
export { XsFormatError, type XsMessageHandler, XsParser } from './xs-parser.ts'
export { XsPacker } from './xs-packer.ts'
export {
  type XsAccess,
  type XsAclEntry,
  type XsPermissions,
  formatXsPermissions,
  parseXsPermissions,
} from './xs-permission.ts'
export { xsPathFault, xsWatchPathFault } from './xs-path.ts'
