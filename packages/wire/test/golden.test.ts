/**
 * Every size, offset and constant of this package, compared with what gcc makes of Xen's own
 * headers.
 */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import * as wire from '../src/index.ts'
import type { BlkifLayout, CStruct, Fields } from '../src/index.ts'
import { compileC, whyNoXenC } from './compile-c.ts'

/** Returns name -> value, from the records in golden.c's object file. */
function compileGolden(...flags: string[]): Map<string, number> {
  const directory = mkdtempSync(join(tmpdir(), 'xenkit-golden-'))
  try {
    const object = join(directory, 'golden.o')
    compileC(join(import.meta.dirname, 'golden.c'), object, '-c', ...flags)
    return recordsOf(readFileSync(object))
  } finally {
    rmSync(directory, { recursive: true })
  }
}

function recordsOf(object: Buffer): Map<string, number> {
  const prefix = 'golden '
  const records = new Map<string, number>()
  for (let at = object.indexOf(prefix); at !== -1; at = object.indexOf(prefix, at + 1)) {
    const name = object.toString('latin1', at + prefix.length, object.indexOf(0, at))
    records.set(name, object.readInt32LE(at + 64))
  }
  return records
}

/**
 * Names missing in the headers of Xen 4.17, against which these tests compile. They were checked by
 * eye in the headers of 4.22; RESTRICT is in neither.
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
]

/** Returns the same names with this package's values. */
function ours(layout: BlkifLayout): Map<string, number> {
  const values = new Map<string, number>()
  const struct = ({ name, size, at }: CStruct<Fields>): void => {
    values.set(`sizeof ${name}`, size)
    // The compiler's padding has no name in C; `size` and the offsets of later fields prove it
    // right.
    for (const [field, offset] of Object.entries(at)) {
      if (!field.startsWith('_pad') && field !== 'pad') values.set(`${name}.${field}`, offset)
    }
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
  ]) {
    struct(one)
  }
  values.set('sizeof slot', layout.slotSize)
  for (const order of [0, 1, 2, 3, 4]) {
    values.set(`slots ${order}`, wire.ringSlots({ pages: 1 << order, slotSize: layout.slotSize }))
  }
  constants('BLKIF_OP_', wire.BLKIF_OP)
  constants('BLKIF_RSP_', wire.BLKIF_RSP)
  constants('VDISK_', wire.VDISK)
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

describe("layouts and constants are those of Xen's headers", () => {
  test.for([
    { abi: 'x86_64', flags: ['-m64'] },
    { abi: 'x86_32', flags: ['-m32'] },
    // The headers in their Arm form, compiled with Arm's alignment: a u64 is aligned to 8 in 32-bit
    // code too.
    { abi: 'arm', flags: ['-m32', '-malign-double', '-U__i386__', '-D__arm__'] },
    { abi: 'arm', flags: ['-m64', '-U__x86_64__', '-D__aarch64__'] },
  ] as const)('$abi $flags.0', ({ abi, flags }, { skip }) => {
    const reason =
      whyNoXenC() ??
      (process.arch === 'x64' ? undefined : `gcc of ${process.arch} can't compile for ${abi}`)
    if (reason) skip(reason)
    expect(sorted(ours(wire.blkif[abi]))).toEqual(sorted(compileGolden(...flags)))
  })
})
