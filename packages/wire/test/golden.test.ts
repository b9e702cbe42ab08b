/**
 * Every size, offset and constant of this package, compared with what gcc makes of Xen's own
 * headers.
 */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import * as wire from '../src/index.ts'
import type { Abi, CStruct, CUnion, Fields } from '../src/index.ts'
import { ABIS, goldenRecords, whyNoRecords } from './golden-records.ts'
import { fsif, keyboard } from './other-headers.ts'

/**
 * Names missing in the headers of Xen 4.17, which these tests compile against. They were checked by
 * eye in the headers of 4.22, except RESTRICT, which is in neither, and XDP, which is in Linux's
 * header.
 */
const NEWER = [
  'XS_RESTRICT',
  'XS_GET_FEATURE',
  'XS_SET_FEATURE',
  'XS_GET_QUOTA',
  'XS_SET_QUOTA',
  'XENSTORE_SERVER_FEATURE_WATCHDEPTH',
  'XENSTORE_SERVER_FEATURE_DOMID_ANY',
  'xenstore_domain_interface.evtchn_port',
  'sizeof xenstore_domain_interface',
  'xencons_interface.connection',
  'sizeof xencons_interface',
  'XEN_NETIF_EXTRA_TYPE_XDP',
]

/** Returns this package's values, under the names that the compiled records have. */
function ours(abi: Abi): Map<string, number> {
  const layout = wire.blkif[abi]
  const other = fsif(abi === 'x86_32' ? { u64: wire.u64Align4, i64: wire.i64Align4 } : wire)
  const { tx, rx, ctrl, extraInfo, extra, gso, mcast, hash, gref } = wire.netif
  const values = new Map<string, number>()
  const struct = ({ name, size, at }: CStruct<Fields>): void => {
    values.set(`sizeof ${name}`, size)
    // The compiler's padding has no name in C. The struct's size and the offsets of later fields
    // prove it.
    for (const [field, offset] of Object.entries(at)) {
      if (!field.startsWith('_pad')) values.set(`${name}.${field}`, offset)
    }
  }
  const union = ({ name, size, align }: Pick<CUnion<object>, 'name' | 'size' | 'align'>): void => {
    values.set(`sizeof ${name}`, size)
    values.set(`alignof ${name}`, align)
  }
  const constants = (prefix: string, all: Record<string, number>): void => {
    for (const [name, value] of Object.entries(all)) values.set(prefix + name, value)
  }

  for (const one of [
    wire.sring,
    layout.segment,
    layout.request,
    layout.discard,
    layout.indirect,
    layout.response,
    wire.grant_entry_v1,
    wire.xsdSockmsg,
    wire.xenstoreDomainInterface,
    wire.xenconsInterface,
    ...[tx, rx, ctrl].flatMap(({ request, response }) => [request, response]),
    extraInfo,
    gso,
    mcast,
    hash,
    gref,
    ...Object.values(keyboard.structs),
    ...Object.values(other.structs),
  ]) {
    struct(one)
  }
  for (const one of [extra, ...Object.values(keyboard.unions), ...Object.values(other.unions)]) {
    union(one)
  }
  for (const [name, { slotSize }] of Object.entries({ tx, rx, ctrl })) {
    values.set(`slot netif.${name}`, slotSize)
  }
  values.set('sizeof slot', layout.slotSize)
  for (const order of [0, 1, 2, 3, 4]) {
    values.set(`slots ${order}`, wire.ringSlots({ pages: 1 << order, slotSize: layout.slotSize }))
  }
  constants('BLKIF_OP_', wire.BLKIF_OP)
  constants('BLKIF_RSP_', wire.BLKIF_RSP)
  constants('VDISK_', wire.VDISK)
  const { XEN_NETIF_NR_SLOTS_MIN, XEN_NETIF_MAX_TX_SIZE } = wire
  constants('', { XEN_NETIF_NR_SLOTS_MIN, XEN_NETIF_MAX_TX_SIZE })
  constants('NETTXF_', wire.NETTXF)
  constants('NETRXF_', wire.NETRXF)
  constants('NETIF_RSP_', wire.NETIF_RSP)
  constants('XEN_NETIF_EXTRA_TYPE_', wire.XEN_NETIF_EXTRA_TYPE)
  constants('XEN_NETIF_EXTRA_FLAG_', wire.XEN_NETIF_EXTRA_FLAG)
  constants('XEN_NETIF_GSO_TYPE_', wire.XEN_NETIF_GSO_TYPE)
  constants('XEN_NETIF_CTRL_HASH_TYPE_', wire.XEN_NETIF_CTRL_HASH_TYPE)
  constants('XEN_NETIF_CTRL_HASH_ALGORITHM_', wire.XEN_NETIF_CTRL_HASH_ALGORITHM)
  constants('XEN_NETIF_CTRL_TYPE_', wire.XEN_NETIF_CTRL_TYPE)
  constants('XEN_NETIF_CTRL_STATUS_', wire.XEN_NETIF_CTRL_STATUS)
  constants('XEN_NETIF_CTRLF_GREF_', wire.XEN_NETIF_CTRLF_GREF)
  constants('GNTST_', wire.GNTST)
  constants('GTF_', wire.GTF)
  constants('XenbusState', wire.XenbusState)
  const {
    BLKIF_DISCARD_SECURE,
    BLKIF_MAX_SEGMENTS_PER_REQUEST,
    BLKIF_MAX_INDIRECT_PAGES_PER_REQUEST,
  } = wire
  constants('', {
    BLKIF_DISCARD_SECURE,
    BLKIF_MAX_SEGMENTS_PER_REQUEST,
    BLKIF_MAX_INDIRECT_PAGES_PER_REQUEST,
  })
  const { GNTTAB_NR_RESERVED_ENTRIES, GNTTAB_RESERVED_CONSOLE, GNTTAB_RESERVED_XENSTORE } = wire
  constants('', { GNTTAB_NR_RESERVED_ENTRIES, GNTTAB_RESERVED_CONSOLE, GNTTAB_RESERVED_XENSTORE })
  const { DOMID_FIRST_RESERVED, DOMID_SELF, DOMID_INVALID, EVTCHN_FIFO_NR_CHANNELS } = wire
  constants('', { DOMID_FIRST_RESERVED, DOMID_SELF, DOMID_INVALID, EVTCHN_FIFO_NR_CHANNELS })
  const { XENSTORE_PAYLOAD_MAX, XENSTORE_ABS_PATH_MAX, XENSTORE_REL_PATH_MAX } = wire
  constants('', { XENSTORE_PAYLOAD_MAX, XENSTORE_ABS_PATH_MAX, XENSTORE_REL_PATH_MAX })
  constants('VIRQ_', wire.VIRQ)
  values.set('NR_VIRQS', wire.NR_VIRQS)
  constants('XS_', wire.XS)
  const { XENSTORE_RING_SIZE, XENSTORE_CONNECTED, XENSTORE_RECONNECT } = wire
  constants('', { XENSTORE_RING_SIZE, XENSTORE_CONNECTED, XENSTORE_RECONNECT })
  constants('XENSTORE_SERVER_FEATURE_', wire.XENSTORE_SERVER_FEATURE)
  constants('XENSTORE_ERROR_', wire.XENSTORE_ERROR)
  for (const name of NEWER) values.delete(name)
  for (const [abi, node] of Object.entries(wire.XEN_IO_PROTO_ABI)) {
    values.set(`protocol ${abi} ${node}`, 0)
  }
  return values
}

const sorted = (values: Map<string, number>): [string, number][] =>
  [...values].toSorted(([a], [b]) => (a < b ? -1 : 1))

const source = readFileSync(join(import.meta.dirname, 'golden.c'), 'utf8')

describe("layouts and constants are those of Xen's headers", () => {
  test.for(ABIS)('$abi $flags.0', ({ abi, flags }, { skip }) => {
    const reason = whyNoRecords()
    if (reason) skip(reason)
    expect(sorted(ours(abi))).toEqual(sorted(goldenRecords(source, flags)))
  })
})
