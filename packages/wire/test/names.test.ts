import { expect, test } from 'vitest'
import {
  GNTST,
  XenbusState,
  gntstMeaning,
  gntstName,
  ringSlots,
  xenbusStateName,
} from '../src/index.ts'

test('grant statuses have names and meanings', () => {
  expect(gntstName(GNTST.bad_gntref)).toBe('GNTST_bad_gntref')
  expect(gntstName(-14)).toBe('-14')
  for (const status of Object.values(GNTST)) expect(gntstMeaning(status)).toMatch(/^[a-zA-Z]/)
  expect(gntstMeaning(GNTST.eagain)).toContain('try again')
  expect(gntstMeaning(-14)).toBeUndefined()
})

test('states have names', () => {
  expect(xenbusStateName(XenbusState.Connected)).toBe('Connected')
  expect([0, 1, 2, 3, 4, 5, 6, 7, 8].map(xenbusStateName)).toEqual(Object.keys(XenbusState))
  expect(xenbusStateName(9)).toBe('9')
})

test('a ring has as many slots as fit, rounded down to a power of two', () => {
  expect(ringSlots({ pages: 1, slotSize: 4032 })).toBe(1)
  expect(ringSlots({ pages: 1, slotSize: 4033 })).toBe(0)
  // netif's tx ring has room for 336 slots; a ring has a power of two
  expect(ringSlots({ pages: 1, slotSize: 12 })).toBe(256)
  expect(ringSlots({ pages: 16, slotSize: 112 })).toBe(512)
})
