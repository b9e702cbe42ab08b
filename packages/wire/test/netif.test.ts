import * as fc from 'fast-check'
import { expect, test } from 'vitest'
import {
  NETIF_RSP,
  XEN_NETIF_EXTRA_FLAG,
  XEN_NETIF_EXTRA_TYPE,
  XEN_NETIF_GSO_TYPE,
  netif,
  ringSlots,
} from '../src/index.ts'

const { extra, extraInfo, rx, tx, ctrl } = netif
const { gso } = netif

test('a ring of one page has as many slots as in Linux and Windows', () => {
  const slots = [tx, rx, ctrl].map(({ slotSize }) => ringSlots({ pages: 1, slotSize }))
  expect(slots).toEqual([256, 256, 128])
})

test('an extra info fits into a slot of either packet ring', () => {
  expect(extraInfo.size).toBe(8)
  expect(Math.min(tx.slotSize, rx.slotSize)).toBeGreaterThanOrEqual(extraInfo.size)
})

test('a GSO extra info has the layout drawn in netif.h', () => {
  const bytes = new Uint8Array(extraInfo.size)
  const segments = { size: 0x0102, type: XEN_NETIF_GSO_TYPE.TCPV6, pad: 0, features: 0 }
  extraInfo.encode(
    {
      type: XEN_NETIF_EXTRA_TYPE.GSO,
      flags: XEN_NETIF_EXTRA_FLAG.MORE,
      u: extra.of('gso', segments),
    },
    bytes,
  )
  expect([...bytes]).toEqual([1, 1, 0x02, 0x01, 2, 0, 0, 0])
  expect(extraInfo.decode(bytes).u.as('gso')).toEqual(segments)
  expect(new DataView(bytes.buffer).getUint16(extraInfo.at.u + gso.at.size, true)).toBe(0x0102)
})

test('every member of an extra info covers the same six bytes', () => {
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 8, maxLength: 8 }), (bytes) => {
      const { u } = extraInfo.decode(bytes)
      const view = new DataView(bytes.buffer)
      expect(u.as('mcast').addr).toEqual([...bytes.subarray(2)])
      expect(u.as('hash')).toEqual({
        type: bytes[2],
        algorithm: bytes[3],
        value: [...bytes.subarray(4)],
      })
      expect(u.as('xdp')).toEqual({
        headroom: view.getUint16(2, true),
        pad: [view.getUint16(4, true), view.getUint16(6, true)],
      })
    }),
  )
})

test('a receive response has a size or an error in one signed field', () => {
  const bytes = new Uint8Array(rx.slotSize)
  rx.response.encode({ id: 7, offset: 0, flags: 0, status: NETIF_RSP.ERROR }, bytes)
  expect([...bytes]).toEqual([7, 0, 0, 0, 0, 0, 0xff, 0xff])
  rx.response.encode({ id: 7, offset: 0, flags: 0, status: 4096 }, bytes)
  expect(rx.response.decode(bytes).status).toBe(4096)
})
