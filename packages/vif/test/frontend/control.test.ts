/** The control ring: what a card asks for, and what it makes of the answers. */
import { expect, test } from 'vitest'
import { VifControlError } from '../../src/index.ts'
import { connectedVif } from '../support/connected-vif.ts'
import type { ControlRequest } from '../support/hand-backend.ts'

const SET_HASH_FLAGS = 2
const SET_HASH_KEY = 3
const SET_HASH_MAPPING_SIZE = 5
const SET_HASH_MAPPING = 6
const SET_HASH_ALGORITHM = 7
const GET_GREF_MAPPING_SIZE = 8
const ADD_GREF_MAPPING = 9
const SUCCESS = 0
const NOT_SUPPORTED = 1
const BUFFER_OVERFLOW = 3

const settings = {
  types: 0b0011,
  key: Uint8Array.from({ length: 40 }, (_, i) => 200 - i),
  mapping: Array.from({ length: 128 }, (_, i) => i % 2),
}

test('a hash: algorithm, types, key, size of the mapping, mapping', async () => {
  const requests: ControlRequest[] = []
  const pages: Uint8Array[] = []
  await using r = await connectedVif({
    queues: 2,
    answerControl: (request, page) => {
      requests.push(request)
      const gref = request.data[0] ?? 0
      const { type } = request
      if (type === SET_HASH_KEY || type === SET_HASH_MAPPING) pages.push(page(gref))
      return { status: SUCCESS }
    },
  })
  await r.vif.setHash(settings)
  expect(requests.map(({ type, data: [a, b, c] }) => [type, a, b, c])).toEqual([
    [SET_HASH_ALGORITHM, 1, 0, 0],
    [SET_HASH_FLAGS, 0b0011, 0, 0],
    [SET_HASH_KEY, expect.any(Number), 40, 0],
    [SET_HASH_MAPPING_SIZE, 128, 0, 0],
    [SET_HASH_MAPPING, expect.any(Number), 128, 0],
  ])
  expect(new Set(requests.map(({ id }) => id)).size).toBe(5)
  const [key, mapping] = pages
  expect(key?.subarray(0, 40)).toEqual(settings.key)
  expect([...new Uint32Array(mapping?.buffer ?? new ArrayBuffer(0), 0, 128)]).toEqual(
    settings.mapping,
  )
  requests.length = 0
  await r.vif.setHash(undefined)
  expect(requests).toMatchObject([{ type: SET_HASH_ALGORITHM, data: [0, 0, 0] }])
})

test('settings that overlap are sent one after the other', async () => {
  const types: number[] = []
  await using r = await connectedVif({
    answerControl: ({ type }) => {
      types.push(type)
      return { status: SUCCESS }
    },
  })
  const none = { ...settings, mapping: [] }
  await Promise.all([r.vif.setHash(none), r.vif.setHash(none)])
  const once = [SET_HASH_ALGORITHM, SET_HASH_FLAGS, SET_HASH_KEY, SET_HASH_MAPPING_SIZE]
  expect(types).toEqual([...once, ...once])
})

test('a refusal rejects with its status, and the next request is sent all the same', async () => {
  let status = BUFFER_OVERFLOW
  await using r = await connectedVif({ answerControl: () => ({ status }) })
  const refused = r.vif.setHash(settings)
  await expect(refused).rejects.toThrow('answered BUFFER_OVERFLOW to SET_HASH_ALGORITHM')
  await expect(refused).rejects.toBeInstanceOf(VifControlError)
  status = SUCCESS
  await r.vif.setHash(settings)
})

test('a key or mapping that does not fit a page is refused before anything is sent', async () => {
  const requests: ControlRequest[] = []
  await using r = await connectedVif({
    answerControl: (request) => {
      requests.push(request)
      return { status: SUCCESS }
    },
  })
  const long = { ...settings, key: new Uint8Array(4097) }
  await expect(r.vif.setHash(long)).rejects.toThrow('"key.length"')
  const many = { ...settings, mapping: Array.from({ length: 1025 }, () => 0) }
  await expect(r.vif.setHash(many)).rejects.toThrow('"mapping.length"')
  expect(requests).toEqual([])
})

test('a request in flight is rejected when the card is closed', async () => {
  await using r = await connectedVif()
  const setting = r.vif.setHash(settings)
  const closing = r.vif.close()
  await expect(setting).rejects.toThrow('was closed')
  await expect(r.vif.setHash(settings)).rejects.toThrow('was closed')
  await r.back.close()
  await closing
})

test.each([
  ['all', 4096, [256, 256]],
  ['those to send from', 256, [256]],
  ['none', 255, []],
])('static grants: %s, if the backend keeps %i', async (_, size, added) => {
  const lists: Uint32Array[] = []
  await using r = await connectedVif({
    staticGrants: true,
    answerControl: ({ type, data: [queue, gref = 0, count = 0] }, page) => {
      expect(queue).toBe(0)
      if (type === GET_GREF_MAPPING_SIZE) return { status: SUCCESS, data: size }
      expect(type).toBe(ADD_GREF_MAPPING)
      lists.push(new Uint32Array(page(gref).buffer, 0, 2 * count))
      return { status: SUCCESS }
    },
  })
  expect(lists.map(({ length }) => length / 2)).toEqual(added)
  // Frames are sent from pages of the first list.
  await r.vif.sendFrame(new Uint8Array(60))
  const [slot] = r.back.queue.sent()
  const refs = [...(lists[0] ?? [])].filter((_ref, i) => i % 2 === 0)
  expect(refs.includes(slot?.gref ?? 0)).toBe(added.length > 0)
})

test('a backend that keeps no grants is used all the same', async () => {
  await using r = await connectedVif({
    staticGrants: true,
    answerControl: () => ({ status: NOT_SUPPORTED }),
  })
  expect(r.vif.carrier).toBe(true)
})
