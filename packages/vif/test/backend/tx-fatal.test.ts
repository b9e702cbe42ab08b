/** Slots after which the ring can't be trusted: each names what is wrong, and closes the card. */
import { RingProtocolError } from '@xenkit/hypervisor'
import { NETTXF, XEN_NETIF_EXTRA_FLAG, XEN_NETIF_EXTRA_TYPE } from '@xenkit/wire'
import { expect, test } from 'vitest'
import { TxRig, type TxRigOptions } from '../support/tx-rig.ts'

const { more_data, extra_info } = NETTXF
const { GSO, HASH } = XEN_NETIF_EXTRA_TYPE
const { MORE } = XEN_NETIF_EXTRA_FLAG

interface Fatal {
  readonly put: (rig: TxRig) => void
  /** Index of the request that is to blame, after one good packet. */
  readonly request: number
  readonly field: string
  readonly text: string
  /** Nothing may follow. */
  readonly isPromise?: boolean
  readonly options?: TxRigOptions
}

const gso = (size: number, type: number) => (rig: TxRig) => {
  rig.put({ size: 100, flags: extra_info })
  rig.putExtra({ type: GSO, u: [size & 255, size >> 8, type, 0, 0, 0] })
}

const CASES: Record<string, Fatal> = {
  'a single part that passes its page': {
    put: (rig) => rig.put({ offset: 4000, size: 97 }),
    request: 1,
    field: 'offset',
    text: '"offset" 4000 and "size" 97 of a part pass its page\'s end, 4096',
  },
  'a first part that passes its page': {
    put(rig) {
      rig.put({ offset: 4000, size: 197, flags: more_data })
      rig.put({ size: 100 })
    },
    request: 1,
    field: 'offset',
    text: '"offset" 4000 and "size" 97 of a part pass its page\'s end, 4096',
  },
  'a later part that passes its page': {
    put(rig) {
      rig.put({ size: 197, flags: more_data })
      rig.put({ offset: 4096, size: 1 })
    },
    request: 2,
    field: 'offset',
    text: '"offset" 4096 and "size" 1 of a part pass its page\'s end, 4096',
  },
  'a part that passes its page in a packet that is refused': {
    put(rig) {
      rig.put({ size: 20, flags: more_data })
      rig.put({ size: 21, flags: more_data })
      rig.put({ offset: 4096, size: 1 })
    },
    request: 3,
    field: 'offset',
    text: '"offset" 4096 and "size" 1 of a part pass its page\'s end, 4096',
  },
  'an offset beyond its page': {
    put: (rig) => rig.put({ offset: 0xffff, size: 14 }),
    request: 1,
    field: 'offset',
    text: '"offset" 65535 and "size" 14 of a part pass its page\'s end, 4096',
  },
  'a packet of 22 parts': {
    put(rig) {
      for (let i = 0; i < 22; i++) rig.put({ size: 30, flags: i < 21 ? more_data : 0 })
    },
    request: 22,
    field: 'flags',
    text: 'the packet has more than 21 parts',
  },
  'a part that never comes': {
    put: (rig) => rig.put({ size: 30, flags: more_data }),
    request: 1,
    field: 'flags',
    text: '"flags" say that a part of its packet follows, but no slot does',
    isPromise: true,
  },
  'an extra info that never comes': {
    put: (rig) => rig.put({ size: 30, flags: extra_info }),
    request: 1,
    field: 'flags',
    text: '"flags" say that an extra info follows, but no slot does',
    isPromise: true,
  },
  'a second extra info that never comes': {
    put(rig) {
      rig.put({ size: 30, flags: extra_info })
      rig.putExtra({ type: HASH, flags: MORE })
    },
    request: 2,
    field: 'flags',
    text: '"flags" say that an extra info follows, but no slot does',
    isPromise: true,
  },
  'an extra info of type 0': {
    put(rig) {
      rig.put({ size: 30, flags: extra_info })
      rig.putExtra({ type: 0 })
    },
    request: 2,
    field: 'type',
    text: '"type" of an extra info expected 1..5, got 0',
  },
  'an extra info of type 6': {
    put(rig) {
      rig.put({ size: 30, flags: extra_info })
      rig.putExtra({ type: 6 })
    },
    request: 2,
    field: 'type',
    text: '"type" of an extra info expected 1..5, got 6',
  },
  'a GSO size of 0': {
    put: gso(0, 1),
    request: 2,
    field: 'gso.size',
    text: '"size" of a GSO extra info expected 1..65535, got 0',
  },
  'a GSO type of 0': {
    put: gso(1448, 0),
    request: 2,
    field: 'gso.type',
    text: '"type" of a GSO extra info expected one that is offered, got 0',
  },
  'a GSO type of 3': {
    put: gso(1448, 3),
    request: 2,
    field: 'gso.type',
    text: '"type" of a GSO extra info expected one that is offered, got 3',
  },
  'GSO of IPv4 that is not offered': {
    put: gso(1448, 1),
    request: 2,
    field: 'gso.type',
    text: '"type" of a GSO extra info expected one that is offered, got 1',
    options: { offered: { gso4: false, gso6: true } },
  },
  'GSO of IPv6 that is not offered': {
    put: gso(1448, 2),
    request: 2,
    field: 'gso.type',
    text: '"type" of a GSO extra info expected one that is offered, got 2',
    options: { offered: { gso4: true, gso6: false } },
  },
}

test.each(Object.entries(CASES))(
  '%s closes the card',
  async (_, { put, request, field, text, isPromise = false, options }) => {
    await using rig = await TxRig.open(options)
    rig.put({ size: 60, id: 1 })
    put(rig)
    if (!isPromise) rig.put({ size: 60, id: 2 })
    rig.turn()
    // What came before is sent. What follows isn't looked at.
    expect(rig.frames.map(({ bytes }) => bytes.length)).toEqual([60])
    expect(rig.failures).toHaveLength(1)
    const [error] = rig.failures
    if (!(error instanceof RingProtocolError)) throw error
    expect(error.message).toBe(`transmit request ${request} in slot ${request}: ${text}`)
    expect(error.details).toMatchObject({ request, slot: request, field })
    // The ring stays closed.
    rig.put({ size: 60, id: 3 })
    rig.turn()
    expect(rig.frames).toHaveLength(1)
    expect(rig.failures).toHaveLength(1)
  },
)

test('extra infos without end, which leave the ring no room, close the card', async () => {
  await using rig = await TxRig.open()
  rig.put({ size: 60, id: 1 })
  rig.turn()
  rig.responses()
  rig.put({ size: 60, flags: extra_info })
  for (let i = 1; i < 256; i++) rig.putExtra({ type: HASH, flags: MORE })
  rig.turn()
  const settled = rig.work.server.settle({ frontend: 'closed' })
  expect(String(rig.failures)).toMatch('"flags" say that an extra info follows, but no slot does')
  await settled
})
