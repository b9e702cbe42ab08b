import { afterEach, describe, expect, test } from 'vitest'
import { loadNative } from '../index.js'

const native = loadNative()
const coded = (code: string): unknown => expect.objectContaining({ code })

afterEach(() =>
  expect(native.counters()).toMatchObject({ fds: 0, mappings: 0, shares: 0, ports: 0, polls: 0 }),
)

describe('arena', () => {
  test('is one zeroed buffer of any size up to 4 GiB', () => {
    for (const pages of [1, 65_536, 2 ** 20]) {
      const buffer = new native.Arena(pages).createBuffer()
      expect(buffer.byteLength).toBe(pages * 4096)
      expect(new Uint8Array(buffer, buffer.byteLength - 4096).every((byte) => byte === 0)).toBe(
        true,
      )
    }
  })

  test.each([0, 2 ** 20 + 1, 2 ** 32 - 1])('refuses %i pages', (pages) => {
    expect(() => new native.Arena(pages)).toThrow(coded('ERR_OUT_OF_RANGE'))
  })

  test('zeroes closed pages for their next user and for late reads', () => {
    const arena = new native.Arena(8)
    const bytes = new Uint8Array(arena.createBuffer())
    const offset = arena.allocate(2)
    bytes.fill(7, offset, offset + 8192)
    arena.close(offset)
    expect(bytes[offset]).toBe(0)
    bytes[offset] = 1
    expect(arena.allocate(8)).toBe(0)
    // A run is zeroed when it ends, not when it is allocated. So a byte that is stored in free
    // pages stays there; no correct code stores one.
    expect(bytes[offset]).toBe(1)
  })

  test('refuses an allocation when it is full', () => {
    const arena = new native.Arena(4)
    arena.allocate(3)
    expect(() => arena.allocate(2)).toThrow(coded('ERR_ARENA_FULL'))
    expect(arena.allocate(1)).toBe(3 * 4096)
  })

  test('allocates nothing after closeAll', () => {
    const arena = new native.Arena(4)
    const bytes = new Uint8Array(arena.createBuffer())
    const offset = arena.allocate(1)
    bytes[offset] = 7
    arena.closeAll()
    expect(bytes[offset]).toBe(0)
    expect(() => arena.allocate(1)).toThrow(coded('ERR_CLOSED'))
    arena.close(offset)
  })

  test.each([1, 4095, 4096, 2 ** 32 - 4096])('knows nothing at offset %i', (offset) => {
    const arena = new native.Arena(4)
    arena.allocate(2)
    expect(() => arena.close(offset)).toThrow(coded('ERR_OUT_OF_RANGE'))
  })

  test('keeps its memory while the buffer is in use, even without its object', async () => {
    const bytes = new Uint8Array(new native.Arena(256).createBuffer())
    for (let round = 0; round < 20; round++) {
      void Array.from({ length: 100_000 }, () => ({})) // makes garbage, so that the collector runs
      await new Promise((resolve) => setImmediate(resolve))
      expect(bytes.fill(round).at(-1)).toBe(round)
    }
  })
})

describe('missing devices', () => {
  const arena = new native.Arena(8)

  test('are named in the error', () => {
    const missing = { code: 'ENOENT', message: 'open "/nowhere": ENOENT' }
    expect(() => new native.Gntdev(arena, '/nowhere')).toThrow(expect.objectContaining(missing))
    expect(() => new native.Gntalloc(arena, '/nowhere')).toThrow(expect.objectContaining(missing))
    expect(() => new native.Evtchn(arena, '/nowhere', arena.allocate(2), () => {})).toThrow(
      expect.objectContaining(missing),
    )
    expect(() => new native.XenbusDevice(arena, '/nowhere', arena.allocate(1), () => {})).toThrow(
      expect.objectContaining(missing),
    )
  })

  test('arguments of a wrong type are refused', () => {
    expect(() => Reflect.construct(native.Arena, ['x'])).toThrow(coded('NumberExpected'))
    expect(() => Reflect.construct(native.Gntdev, [{}, '/dev/null'])).toThrow(coded('InvalidArg'))
    expect(() => Reflect.construct(native.Evtchn, [arena, '/dev/null', 0, 1])).toThrow(
      coded('InvalidArg'),
    )
  })
})
