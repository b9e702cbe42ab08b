/** Multicast addresses of a card, and the extra infos that change them. */
import { NETIF_RSP, NETTXF, XEN_NETIF_EXTRA_FLAG, XEN_NETIF_EXTRA_TYPE } from '@xenkit/wire'
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { MAX_MULTICAST_ADDRESSES, MulticastFilter } from '../../src/backend/multicast-filter.ts'
import { TxRig } from '../support/tx-rig.ts'

const { MCAST_ADD, MCAST_DEL } = XEN_NETIF_EXTRA_TYPE
const group = (last: number): Uint8Array => Uint8Array.of(0x33, 0x33, 0, 0, 1, last)

test('without multicast control every frame passes', () => {
  const filter = new MulticastFilter()
  expect(filter.passes(group(1), 0)).toBe(true)
})

test('unicast and broadcast frames pass, others only to a listed address', () => {
  const filter = new MulticastFilter()
  filter.enabled = true
  filter.add(group(1), 0)
  expect(filter.passes(Uint8Array.of(2, 0, 0, 0, 0, 1), 0)).toBe(true)
  expect(filter.passes(new Uint8Array(6).fill(0xff), 0)).toBe(true)
  expect(filter.passes(group(1), 0)).toBe(true)
  expect(filter.passes(group(2), 0)).toBe(false)
  expect(filter.passes(Uint8Array.of(9, ...group(1)), 1)).toBe(true)
})

test('the list is a bag of at most 64 addresses', () => {
  fc.assert(
    fc.property(
      fc.array(fc.record({ adds: fc.boolean(), last: fc.nat(80) }), {
        maxLength: 300,
        size: 'max',
      }),
      (steps) => {
        const filter = new MulticastFilter()
        filter.enabled = true
        const bag: number[] = []
        for (const { adds, last } of steps) {
          if (adds) {
            const fits = bag.length < MAX_MULTICAST_ADDRESSES
            if (fits) bag.push(last)
            expect(filter.add(group(last), 0)).toBe(fits)
          } else {
            const at = bag.indexOf(last)
            if (at >= 0) bag.splice(at, 1)
            filter.remove(group(last), 0)
          }
        }
        for (let last = 0; last <= 80; last++) {
          expect(filter.passes(group(last), 0)).toBe(bag.includes(last))
        }
      },
    ),
  )
})

test('extra infos change the list, and their packets are dummies', async () => {
  await using rig = await TxRig.open()
  rig.filter.enabled = true
  const { extra_info, more_data } = NETTXF
  // Even the slots that such a packet promises are others' packets.
  rig.put({ size: 60, flags: extra_info | more_data, id: 1 })
  rig.putExtra({ type: MCAST_ADD, u: [...group(1)] })
  rig.put({ size: 60, id: 2 })
  rig.turn()
  expect(rig.frames).toHaveLength(1)
  expect(rig.answers()).toEqual(['1:0', `0:${NETIF_RSP.NULL}`, '2:0'])
  expect(rig.filter.passes(group(1), 0)).toBe(true)

  // With both kinds, the address is added and none is removed, as in netback.
  rig.put({ flags: extra_info, id: 3 })
  rig.putExtra({ type: MCAST_DEL, flags: XEN_NETIF_EXTRA_FLAG.MORE, u: [...group(1)] })
  rig.putExtra({ type: MCAST_ADD, u: [...group(2)] })
  rig.put({ flags: extra_info, id: 4 })
  rig.putExtra({ type: MCAST_DEL, u: [...group(9)] })
  rig.turn()
  expect(rig.answers()).toEqual(['3:0', '0:1', '0:1', '4:0', '0:1'])
  expect([1, 2].map((last) => rig.filter.passes(group(last), 0))).toEqual([true, true])

  rig.put({ flags: extra_info, id: 5 })
  rig.putExtra({ type: MCAST_DEL, u: [...group(1)] })
  rig.turn()
  rig.put({ flags: extra_info, id: 6 })
  rig.putExtra({ type: MCAST_DEL, u: [...group(2)] })
  rig.turn()
  expect([1, 2].map((last) => rig.filter.passes(group(last), 0))).toEqual([false, false])
  expect(rig.frames).toHaveLength(1)
})

test('an address that finds the list full is refused', async () => {
  await using rig = await TxRig.open()
  for (let i = 0; i <= MAX_MULTICAST_ADDRESSES; i++) {
    rig.put({ flags: NETTXF.extra_info, id: i })
    rig.putExtra({ type: MCAST_ADD, u: [...group(i)] })
  }
  rig.turn()
  const statuses = rig
    .responses()
    .flatMap(({ status }) => (status === NETIF_RSP.NULL ? [] : status))
  expect(statuses).toEqual([...Array.from({ length: 64 }, () => NETIF_RSP.OKAY), NETIF_RSP.ERROR])
  expect(rig.failures).toEqual([])
})
