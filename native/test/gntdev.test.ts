/** The addon's own checks before it calls the driver, and its errors when the driver refuses. */
import { afterAll, describe, expect, test } from 'vitest'
import { loadNative } from '../index.js'
import { Fifo } from './fifo.ts'

const native = loadNative()
const coded = (code: string, message = ''): unknown =>
  expect.objectContaining({ code, message: expect.stringContaining(message) as string })

const CAPACITY = 4
const fifo = new Fifo()
const arena = new native.Arena(8)
const buffer = arena.createBuffer()
const gntdev = new native.Gntdev(arena, fifo.path)
const table = arena.allocate(1)
const layout = gntdev.copyLayout(CAPACITY)
const gref = new Uint32Array(buffer, table + layout.gref, CAPACITY)
const local = new Uint32Array(buffer, table + layout.local, CAPACITY)
const offset = new Uint16Array(buffer, table + layout.offset, CAPACITY)
const length = new Uint16Array(buffer, table + layout.length, CAPACITY)

function fill(op: {
  readonly local?: number
  readonly offset?: number
  readonly length?: number
}): void {
  gref[0] = 8
  local[0] = op.local ?? 4096
  offset[0] = op.offset ?? 0
  length[0] = op.length ?? 4096
}

afterAll(() => {
  gntdev.close()
  fifo[Symbol.dispose]()
  expect(native.counters()).toMatchObject({ fds: 0, mappings: 0, shares: 0 })
})

describe('copy', () => {
  test('has columns one after another, which the addon places', () => {
    expect(gntdev.copyLayout(3)).toEqual({
      gref: 0,
      local: 12,
      offset: 24,
      length: 30,
      status: 36,
      size: 42,
    })
    expect(gntdev.copyLayout(65_536).size).toBe(65_536 * 14)
    expect(() => gntdev.copyLayout(65_537)).toThrow(coded('ERR_OUT_OF_RANGE'))
  })

  test('within bounds reaches the driver, and a fifo refuses it', () => {
    for (const op of [
      {},
      { offset: 4095, length: 1 },
      { local: 8 * 4096 - 1, length: 1 },
      { local: 4097 },
    ]) {
      fill(op)
      expect(() => gntdev.createCopy(table, CAPACITY, 0, false)(1)).toThrow(
        coded('ENOTTY', 'IOCTL_GNTDEV_GRANT_COPY'),
      )
    }
  })

  test.each([
    ['crosses the granted page', { offset: 1, length: 4096 }],
    ['begins beyond it', { offset: 4096, length: 1 }],
    ['copies nothing', { length: 0 }],
    ['is longer than a page', { length: 4097 }],
    ['crosses the end of the arena', { local: 8 * 4096 - 4095 }],
    ['begins beyond the arena', { local: 2 ** 32 - 1, length: 1 }],
  ])('is refused if it %s', (_, op) => {
    fill(op)
    expect(() => gntdev.createCopy(table, CAPACITY, 0, true)(1)).toThrow(
      coded('ERR_OUT_OF_RANGE', 'operation 0'),
    )
  })

  test.each([
    ['more operations than the table has', table, CAPACITY, CAPACITY + 1],
    ['more than 65536', table, 65_537, 1],
    ['a table that is longer than its pages', table, 293, 1],
    ['a table that is not allocated', 4096, CAPACITY, 1],
    ['a table that begins within a page', table + 4, CAPACITY, 1],
    ['a table outside the arena', 2 ** 32 - 4096, CAPACITY, 1],
  ])('is refused with %s', (_, at, capacity, count) => {
    fill({})
    expect(() => gntdev.createCopy(at, capacity, 0, false)(count)).toThrow(
      coded('ERR_OUT_OF_RANGE'),
    )
  })
})

test('a copy function called after close is refused, and keeps no device open', () => {
  const closed = new native.Gntdev(arena, fifo.path)
  const copy = closed.createCopy(table, CAPACITY, 0, false)
  const { fds } = native.counters()
  closed.close()
  expect(native.counters().fds).toBe(fds - 1)
  expect(() => copy(0)).toThrow(coded('ERR_CLOSED'))
})

describe('map', () => {
  test('leaves nothing behind when the driver refuses', () => {
    const free = arena.allocate(7)
    arena.close(free)
    expect(() => gntdev.map(Uint32Array.of(0, 8, 0, 9), true)).toThrow(
      coded('ENOTTY', 'IOCTL_GNTDEV_MAP_GRANT_REF'),
    )
    expect(arena.allocate(7)).toBe(free)
    arena.close(free)
  })

  test('needs refs', () => {
    expect(() => gntdev.map(new Uint32Array(), true)).toThrow(coded('ERR_OUT_OF_RANGE'))
  })

  test('probe returns the errno when there is no status', () => {
    expect(gntdev.probe(0, 8, true)).toBe(-25)
  })
})

test('share leaves nothing behind when the driver refuses', () => {
  const gntalloc = new native.Gntalloc(arena, fifo.path)
  expect(() => gntalloc.share(0, 2, true)).toThrow(coded('ENOTTY', 'IOCTL_GNTALLOC_ALLOC_GREF'))
  const free = arena.allocate(7)
  arena.close(free)
  gntalloc.close()
  expect(() => gntalloc.share(0, 2, true)).toThrow(coded('ERR_CLOSED'))
})

test('own pages have no unmap-notify', () => {
  expect(() => arena.notifyOnUnmap(table, 0, undefined)).toThrow(coded('ERR_OUT_OF_RANGE'))
})
