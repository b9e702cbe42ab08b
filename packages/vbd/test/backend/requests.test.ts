/**
 * Decoding of requests: `decode` finds what the wire schema encodes, whatever the ABI, and refuses
 * bad requests.
 */
import { closeAll } from '@xenkit/hypervisor'
import { createMachine } from '@xenkit/sim'
import { GrantTable } from '@xenkit/grant'
import { BLKIF_MAX_SEGMENTS_PER_REQUEST, BLKIF_OP, BLKIF_RSP, blkif } from '@xenkit/wire'
import fc from 'fast-check'
import { afterAll, describe, expect, test } from 'vitest'
import { Decoder } from '../../src/backend/decoder.ts'
import type { Limits } from '../../src/backend/limits.ts'
import { Requests } from '../../src/backend/requests.ts'
import { MAX_SEGMENTS } from '../../src/nodes.ts'

const ROWS = 4
const { OKAY, ERROR, EOPNOTSUPP } = BLKIF_RSP

const segments = fc.array(
  fc
    .tuple(fc.nat(0xffff_ffff), fc.nat(7), fc.nat(7))
    .map(([gref, a, b]) => ({ gref, first_sect: Math.min(a, b), last_sect: Math.max(a, b) })),
  { minLength: 1, maxLength: BLKIF_MAX_SEGMENTS_PER_REQUEST },
)
const request = fc.record({
  operation: fc.constantFrom(BLKIF_OP.READ, BLKIF_OP.WRITE, BLKIF_OP.FLUSH_DISKCACHE),
  handle: fc.nat(0xffff),
  id: fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
  sector: fc.oneof(
    fc.nat(1000),
    fc.maxSafeInteger().map((n) => Math.abs(n) % (2 ** 43 - 88)),
  ),
  segments,
  junk: fc.nat(255),
})
type Request = typeof request extends fc.Arbitrary<infer T> ? T : never

describe.each(['x86_64', 'x86_32', 'arm'] as const)('%s', (abi) => {
  const layout = blkif[abi]
  const stride = Math.ceil(layout.slotSize / 8) * 8

  const machine = createMachine()
  const [back, front] = [machine.createDomain(), machine.createDomain()]
  const grants = new GrantTable(back.grants)
  const copier = grants.openCopier({ domid: front.domid, capacity: ROWS })
  const decoders: Decoder[] = []
  afterAll(async () => {
    closeAll(decoders)
    grants.close()
    await machine[Symbol.asyncDispose]()
  })

  function make(limits: Partial<Limits> = {}) {
    const image = new ArrayBuffer(ROWS * stride)
    const requests = new Requests(ROWS)
    const all = {
      sectors: 2 ** 43,
      sectorMask: 0,
      writable: true,
      flush: true,
      discard: true,
      secureDiscard: true,
      ...limits,
    }
    const decoder = new Decoder({ requests, image, layout, limits: all, copier, arena: back.arena })
    decoders.push(decoder)
    const decode = (row: number, at: number): number | undefined => {
      decoder.decode(row, at)
      return requests.status[row]
    }
    return { requests, image, decode, decoder }
  }

  function put(
    image: ArrayBuffer,
    slot: number,
    o: Omit<Partial<Request>, 'operation'> & {
      operation?: number
      nr_segments?: number
      wide?: bigint
    },
  ): number {
    const {
      operation = BLKIF_OP.READ,
      handle = 0,
      id = 1n,
      sector = 0,
      junk = 0xee,
      segments: given = [{ gref: 1, first_sect: 0, last_sect: 7 }],
    } = o
    const { request: schema } = layout
    const seg = Array.from({ length: BLKIF_MAX_SEGMENTS_PER_REQUEST }, (_, i) => ({
      gref: junk,
      first_sect: junk,
      last_sect: junk,
      ...given[i],
      _pad: [junk, junk],
    }))
    const _pad = Array.from({ length: schema.at.id - 4 }, () => junk)
    schema.encode(
      {
        operation,
        nr_segments: o.nr_segments ?? given.length,
        handle,
        _pad,
        id,
        sector_number: o.wide ?? BigInt(sector),
        seg,
      },
      new Uint8Array(image),
      slot * stride,
    )
    return slot * stride
  }

  test('a request is decoded to the fields that were encoded, and to no others', () => {
    fc.assert(
      fc.property(fc.array(request, { minLength: 1, maxLength: ROWS }), (sent) => {
        const { requests, image, decode } = make()
        const rows = sent.map((fields, slot) => {
          const row = requests.take()
          expect(decode(row, put(image, slot, fields))).toBe(OKAY)
          return row
        })
        // Columns are private: later changes of the image don't matter.
        new Uint8Array(image).fill(0xff)
        for (const [i, fields] of sent.entries()) {
          const row = rows[i] ?? -1
          const at = row * MAX_SEGMENTS
          const columns = fields.segments.map((_, s) => ({
            gref: requests.gref[at + s],
            offset: requests.pageOffset[at + s],
            length: requests.length[at + s],
          }))
          const lengths = fields.segments.map(
            ({ first_sect, last_sect }) => (last_sect - first_sect + 1) * 512,
          )
          const total = lengths.reduce((sum, length) => sum + length, 0)
          expect({
            operation: requests.operation[row],
            id: (BigInt(requests.idHigh[row] ?? 0) << 32n) | BigInt(requests.idLow[row] ?? 0),
            sector: requests.sector(row),
            count: requests.segmentCount[row],
            bytes: requests.bytes[row],
            columns,
          }).toEqual({
            operation: fields.operation,
            id: fields.id,
            sector: fields.sector,
            count: fields.segments.length,
            bytes: total,
            columns: fields.segments.map(({ gref, first_sect }, s) => ({
              gref,
              offset: first_sect * 512,
              length: lengths[s],
            })),
          })
        }
      }),
    )
  })

  test('a refused request keeps id and operation, and nothing of the last request', () => {
    fc.assert(
      fc.property(
        fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
        fc.nat(255),
        fc.nat(255),
        fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
        fc.nat(255),
        (id, operation, nr_segments, wide, junk) => {
          const { requests, image, decode, decoder } = make({ sectors: 8 })
          const row = requests.take()
          expect(decode(row, put(image, 0, {}))).toBe(OKAY)
          decode(row, put(image, 1, { id, operation, nr_segments, wide, junk, segments: [] }))
          decoder.fetchIndirect()
          decoder.close()
          const status = requests.status[row]
          // An indirect request has its `indirect_op` where others have their number of segments.
          const answered = operation === BLKIF_OP.INDIRECT ? nr_segments : operation
          expect([requests.idLow[row], requests.idHigh[row], requests.operation[row]]).toEqual([
            Number(id & 0xffff_ffffn),
            Number(id >> 32n),
            answered,
          ])
          if (status !== OKAY) {
            expect([requests.bytes[row], requests.segmentCount[row]]).toEqual([0, 0])
          } else expect(requests.end(row) <= 8 || requests.bytes[row] === 0).toBe(true)
        },
      ),
    )
  })

  const page = { gref: 1, first_sect: 0, last_sect: 7 }
  const refused: readonly [string, Parameters<typeof put>[2], Partial<Limits>, number][] = [
    ['a read that ends at the end', { sector: 56 }, { sectors: 64 }, OKAY],
    ['a read that ends behind it', { sector: 57 }, { sectors: 64 }, ERROR],
    [
      'eleven segments',
      { segments: Array.from({ length: 11 }, () => page) },
      { sectors: 88 },
      OKAY,
    ],
    [
      'eleven segments, the last behind the end',
      { segments: Array.from({ length: 11 }, () => page) },
      { sectors: 87 },
      ERROR,
    ],
    // The twelfth segment would lie in the next slot, whose bytes make a valid one.
    [
      'twelve segments',
      { segments: Array.from({ length: 11 }, () => page), nr_segments: 12 },
      {},
      ERROR,
    ],
    ['a sector of 2^53 + 1', { wide: 2n ** 53n + 1n }, {}, ERROR],
    ['the last sector there is', { wide: 2n ** 64n - 1n }, {}, ERROR],
    [
      'a flush without data, at a sector anywhere',
      { operation: BLKIF_OP.FLUSH_DISKCACHE, segments: [], wide: 2n ** 64n - 1n },
      {},
      OKAY,
    ],
    ['a barrier without data', { operation: BLKIF_OP.WRITE_BARRIER, segments: [] }, {}, OKAY],
    [
      'a barrier where there is none',
      { operation: BLKIF_OP.WRITE_BARRIER },
      { flush: false },
      EOPNOTSUPP,
    ],
    [
      'a barrier to a read-only disk',
      { operation: BLKIF_OP.WRITE_BARRIER },
      { writable: false },
      ERROR,
    ],
    ['sectors of 4096: a read of one', { sector: 8 }, { sectorMask: 7 }, OKAY],
    ['sectors of 4096: a read between two', { sector: 4 }, { sectorMask: 7 }, ERROR],
    [
      'sectors of 4096: a read at a sector between two above 2^32',
      { wide: 2n ** 33n + 1n },
      { sectorMask: 7 },
      ERROR,
    ],
    [
      'sectors of 4096: a read of half of one',
      { segments: [{ ...page, last_sect: 3 }] },
      { sectorMask: 7 },
      ERROR,
    ],
    [
      'sectors of 4096: two halves',
      {
        segments: [
          { ...page, last_sect: 3 },
          { ...page, first_sect: 4 },
        ],
      },
      { sectorMask: 7 },
      ERROR,
    ],
    [
      'a flush where there is none',
      { operation: BLKIF_OP.FLUSH_DISKCACHE, segments: [] },
      { flush: false },
      EOPNOTSUPP,
    ],
    [
      'a flush of a read-only disk',
      { operation: BLKIF_OP.FLUSH_DISKCACHE, segments: [] },
      { writable: false },
      OKAY,
    ],
    [
      'a flush with data of a read-only disk',
      { operation: BLKIF_OP.FLUSH_DISKCACHE },
      { writable: false },
      ERROR,
    ],
    ['a write to a read-only disk', { operation: BLKIF_OP.WRITE }, { writable: false }, ERROR],
    ['a read without segments', { segments: [] }, {}, ERROR],
    ['a segment beyond its page', { segments: [{ ...page, last_sect: 8 }] }, {}, ERROR],
    [
      'a segment that ends before it begins',
      { segments: [page, { ...page, first_sect: 4, last_sect: 3 }] },
      {},
      ERROR,
    ],
  ]
  test.each(refused)('%s', (_, fields, limits, status) => {
    const { requests, image, decode } = make(limits)
    const row = requests.take()
    expect(decode(row, put(image, 2, fields))).toBe(status)
  })
})
