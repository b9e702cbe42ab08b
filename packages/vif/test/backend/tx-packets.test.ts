/** How slots of a transmit ring become frames, and how each slot is answered. */
import { Checksum } from '@xenkit/frames'
import { RingProtocolError } from '@xenkit/hypervisor'
import { NETIF_RSP, NETTXF, XEN_NETIF_EXTRA_FLAG, XEN_NETIF_EXTRA_TYPE } from '@xenkit/wire'
import { expect, test } from 'vitest'
import { patternAt, TxRig } from '../support/tx-rig.ts'

const { more_data, extra_info, data_validated } = NETTXF

const bytesOf = (page: number, offset: number, size: number): Uint8Array =>
  Uint8Array.from({ length: size }, (_, i) => patternAt(page, offset + i))

const joined = (...parts: Uint8Array[]): Uint8Array =>
  Uint8Array.from(parts.flatMap((part) => [...part]))

test('a packet of one slot is sent, and answered with its id', async () => {
  await using rig = await TxRig.open()
  rig.put({ offset: 100, size: 60, id: 0xbeef })
  rig.turn()
  expect(rig.frames.map(({ bytes }) => bytes)).toEqual([bytesOf(0, 100, 60)])
  expect(rig.frames[0]).toMatchObject({ checksum: Checksum.COMPLETE, gso: 0 })
  expect(rig.answers()).toEqual([`${0xbeef}:${NETIF_RSP.OKAY}`])
  expect(rig.counters.stats).toMatchObject({ framesSent: 1, bytesSent: 60, sendErrors: 0 })
})

test('parts are joined: the first one has what the others leave of the size', async () => {
  await using rig = await TxRig.open()
  rig.put({ offset: 4000, size: 96 + 4096 + 10, flags: more_data | data_validated, id: 1 })
  rig.put({ gref: rig.gref(1), size: 4096, flags: more_data, id: 2 })
  rig.put({ gref: rig.gref(2), offset: 4086, size: 10, id: 3 })
  rig.turn()
  const expected = joined(bytesOf(0, 4000, 96), bytesOf(1, 0, 4096), bytesOf(2, 4086, 10))
  expect(rig.frames.map(({ bytes }) => bytes)).toEqual([expected])
  expect(rig.frames[0]?.checksum).toBe(Checksum.VERIFIED)
  expect(rig.answers()).toEqual(['1:0', '2:0', '3:0'])
})

test('an extra info is answered with NULL, and all bytes of a slot are written', async () => {
  await using rig = await TxRig.open()
  rig.put({ size: 64, flags: extra_info, id: 0xffff })
  rig.putExtra({ type: XEN_NETIF_EXTRA_TYPE.HASH, flags: XEN_NETIF_EXTRA_FLAG.MORE })
  rig.putExtra({ type: XEN_NETIF_EXTRA_TYPE.XDP })
  rig.turn()
  expect(rig.frames).toHaveLength(1)
  const slots = rig.responses().map(({ slot }) => [...slot])
  const zeros = [0, 0, 0, 0, 0, 0, 0, 0]
  const none = [0, 0, NETIF_RSP.NULL, 0, ...zeros]
  expect(slots).toEqual([[0xff, 0xff, 0, 0, ...zeros], none, none])
})

test('a packet may come in several turns of the drain', async () => {
  await using rig = await TxRig.open()
  // The ring is drained by 16 slots: the second packet lies across the border.
  for (let i = 0; i < 12; i++) rig.put({ size: 20, id: i })
  rig.put({ size: 100 + 7 * 10, flags: more_data, id: 12 })
  for (let i = 0; i < 7; i++) rig.put({ size: 10, flags: i < 6 ? more_data : 0, id: 13 + i })
  rig.turn()
  expect(rig.frames).toHaveLength(13)
  expect(rig.batches).toEqual([13])
  expect(rig.answers()).toEqual(Array.from({ length: 20 }, (_, i) => `${i}:0`))
})

test('a whole ring is sent in batches of 64', async () => {
  await using rig = await TxRig.open()
  for (let i = 0; i < 256; i++) rig.put({ size: 60, offset: i, id: i })
  rig.turn()
  expect(rig.batches).toEqual([64, 64, 64, 64])
  expect(rig.answers()).toEqual(Array.from({ length: 256 }, (_, i) => `${i}:0`))
  expect(rig.frames[255]?.bytes).toEqual(bytesOf(0, 255, 60))
})

test('a promised slot that never comes closes the card', async () => {
  await using rig = await TxRig.open()
  rig.put({ size: 60, id: 1 })
  rig.put({ size: 60, id: 2, flags: more_data })
  rig.turn()
  expect(rig.frames).toHaveLength(1)
  expect(rig.failures).toHaveLength(1)
  expect(rig.failures[0]).toBeInstanceOf(RingProtocolError)
  expect(String(rig.failures[0])).toContain('transmit request 1 in slot 1: "flags" say that a part')
})
