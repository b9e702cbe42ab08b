import { NegotiationError } from '@xenkit/hypervisor'
import * as fc from 'fast-check'
import { afterEach, beforeEach, describe, expect, expectTypeOf, test } from 'vitest'
import { defineNodes, parseDecimal, parseFlag, type XenstoreClient } from '../src/index.ts'
import { Store } from './support/store.ts'

const nodes = defineNodes({
  sectors: {
    type: 'decimal',
    max: Number.MAX_SAFE_INTEGER,
    writer: 'backend',
    meaning: 'size in units of 512 bytes',
  },
  'feature-flush-cache': {
    type: 'flag',
    default: false,
    writer: 'backend',
    meaning: 'accepts BLKIF_OP_FLUSH_DISKCACHE',
  },
  'ring-page-order': {
    type: 'decimal',
    max: 4,
    default: undefined,
    writer: 'frontend',
    meaning: 'log2 of the pages of the ring',
  },
  protocol: {
    type: 'enum',
    values: ['x86_64-abi', 'x86_32-abi'],
    default: 'x86_64-abi',
    writer: 'frontend',
    meaning: 'ABI of the ring',
  },
  dev: {
    type: 'text',
    maxLength: 8,
    default: undefined,
    writer: 'toolstack',
    meaning: 'name in the guest',
  },
})

let store: Store
let dom0: XenstoreClient

beforeEach(async () => {
  store = new Store()
  dom0 = await store.open(0)
})

afterEach(() => store[Symbol.dispose]())

test('reads typed values, with defaults where nodes are absent', async () => {
  await dom0.write('/d/sectors', '2048')
  const values = await nodes.read(dom0, '/d')
  expect(values).toEqual({
    sectors: 2048,
    'feature-flush-cache': false,
    'ring-page-order': undefined,
    protocol: 'x86_64-abi',
    dev: undefined,
  })
  expectTypeOf(values).toEqualTypeOf<{
    readonly sectors: number
    readonly 'feature-flush-cache': boolean
    readonly 'ring-page-order': number | undefined
    readonly protocol: 'x86_64-abi' | 'x86_32-abi'
    readonly dev: string | undefined
  }>()
})

test('reads the values that it wrote', async () => {
  const some = fc.record({
    sectors: fc.maxSafeNat(),
    'feature-flush-cache': fc.boolean(),
    'ring-page-order': fc.nat(4),
    protocol: fc.constantFrom('x86_64-abi' as const, 'x86_32-abi' as const),
    dev: fc.string({ maxLength: 8 }),
  })
  await fc.assert(
    fc.asyncProperty(some, async (values) => {
      await nodes.write(dom0, '/d', values)
      expect(await nodes.read(dom0, '/d')).toEqual(values)
    }),
  )
})

test('one node can be read alone, even if others are invalid', async () => {
  await dom0.write('/d/sectors', 'banana')
  await dom0.write('/d/dev', 'xvda')
  const dev = await nodes.readNode(dom0, '/d', 'dev')
  expect(dev).toBe('xvda')
  expectTypeOf(dev).toEqualTypeOf<string | undefined>()
  await expect(nodes.readNode(dom0, '/d', 'sectors')).rejects.toThrow(
    'node "/d/sectors" holds "banana"',
  )
})

test('an enumeration of numbers gives numbers', async () => {
  const states = defineNodes({
    state: {
      type: 'enum',
      values: [1, 4, 6],
      default: undefined,
      writer: 'backend',
      meaning: 'where this side is',
    },
  })
  await states.write(dom0, '/e', { state: 4 })
  const state = await states.readNode(dom0, '/e', 'state')
  expect(state).toBe(4)
  expectTypeOf(state).toEqualTypeOf<1 | 4 | 6 | undefined>()
  for (const wrong of ['5', '04', ' 4', '']) {
    await dom0.write('/e/state', wrong)
    await expect(states.read(dom0, '/e')).rejects.toThrow('expected 1 or 4 or 6')
  }
})

test("writes only the given values, in xenstore's form", async () => {
  await dom0.transaction((view) =>
    nodes.write(view, '/d', { 'feature-flush-cache': true, sectors: 7, dev: undefined }),
  )
  expect((await dom0.list('/d')).toSorted()).toEqual(['feature-flush-cache', 'sectors'])
  expect(nodes.format({ 'feature-flush-cache': true, sectors: 7 })).toEqual({
    'feature-flush-cache': '1',
    sectors: '7',
  })
})

test.each([
  ['sectors', '12abc', 'a number 0..9007199254740991'],
  ['feature-flush-cache', 'yes', '0 or 1'],
  ['ring-page-order', '5', 'a number 0..4'],
  ['protocol', 'x86_64', 'x86_64-abi or x86_32-abi'],
  ['dev', 'a long name', 'at most 8 characters'],
])('"%s" holding "%s" is the other side\'s fault', async (name, value, expected) => {
  await dom0.write('/d/sectors', '1')
  await dom0.write(`/d/${name}`, value)
  const read = nodes.read(dom0, '/d')
  await expect(read).rejects.toThrow(`node "/d/${name}" holds "${value}", expected ${expected}`)
  await expect(read).rejects.toMatchObject({
    code: 'ERR_XEN_NEGOTIATION',
    details: { node: `/d/${name}`, value, expected },
  })
})

test('a malformed decimal is read as its "otherwise" value', async () => {
  const hints = defineNodes({
    size: {
      type: 'decimal',
      min: 1,
      max: 9,
      default: 5,
      otherwise: NaN,
      writer: 'backend',
      meaning: 'a hint',
    },
  })
  expect(await hints.read(dom0, '/hint')).toEqual({ size: 5 })
  const values = [
    ['9', 9],
    ['0', NaN],
    ['10', NaN],
    ['-1', NaN],
    ['', NaN],
  ] as const
  for (const [value, size] of values) {
    await dom0.write('/hint/size', value)
    expect(await hints.readNode(dom0, '/hint', 'size')).toBe(size)
  }
  expect(() => hints.format({ size: 10 })).toThrow(RangeError)
})

describe('a family', () => {
  const rings = defineNodes({
    'num-rings': { type: 'decimal', max: 4, writer: 'frontend', meaning: 'how many rings' },
    'ring-ref{n}': { type: 'decimal', max: 99, writer: 'frontend', meaning: 'a page of the ring' },
    'queue-{n}/mode': {
      type: 'enum',
      values: ['tx', 'rx'],
      default: 'tx',
      writer: 'frontend',
      meaning: 'where its packets go',
    },
  })

  test("is written and read with a number in the node's or a directory's name", async () => {
    const some = fc.record({
      'num-rings': fc.nat(4),
      'ring-ref{n}': fc.array(fc.nat(99), { maxLength: 12 }),
      'queue-{n}/mode': fc.array(fc.constantFrom('tx' as const, 'rx' as const), { maxLength: 3 }),
    })
    await fc.assert(
      fc.asyncProperty(some, async (values) => {
        await dom0.rm('/d')
        await rings.write(dom0, '/d', values)
        const refs = values['ring-ref{n}']
        const modes = values['queue-{n}/mode']
        expect(await rings.readFamily(dom0, '/d', 'ring-ref{n}', refs.length)).toEqual(refs)
        expect(await rings.readFamily(dom0, '/d', 'queue-{n}/mode', modes.length)).toEqual(modes)
        const all = { 'num-rings': values['num-rings'] }
        expect(await rings.read(dom0, '/d')).toEqual(all)
        expect((await dom0.list('/d')).toSorted()).toEqual(
          [
            'num-rings',
            ...refs.map((_, n) => `ring-ref${n}`),
            ...modes.map((_, n) => `queue-${n}`),
          ].toSorted(),
        )
      }),
    )
  })

  test('is typed: `write` takes a list, and `read` leaves it out', async () => {
    expect(rings.format({ 'ring-ref{n}': [8, 9], 'queue-{n}/mode': ['rx'] })).toEqual({
      'ring-ref0': '8',
      'ring-ref1': '9',
      'queue-0/mode': 'rx',
    })
    const modes = await rings.readFamily(dom0, '/d', 'queue-{n}/mode', 2)
    expect(modes).toEqual(['tx', 'tx'])
    expectTypeOf(modes).toEqualTypeOf<('tx' | 'rx')[]>()
    await dom0.write('/d/num-rings', '0')
    const values = await rings.read(dom0, '/d')
    expectTypeOf(values).toEqualTypeOf<{ readonly 'num-rings': number }>()
    // @ts-expect-error readNode takes no family, because a family has no single value
    await expect(rings.readNode(dom0, '/d', 'ring-ref{n}')).rejects.toThrow('ring-ref0')
    // @ts-expect-error readFamily takes only families
    await rings.readFamily(dom0, '/d', 'num-rings', 1)
  })

  test('names the node that is missing, malformed or out of range', async () => {
    await rings.write(dom0, '/d', { 'ring-ref{n}': [8] })
    await expect(rings.readFamily(dom0, '/d', 'ring-ref{n}', 2)).rejects.toMatchObject({
      code: 'ERR_XEN_NEGOTIATION',
      details: { node: '/d/ring-ref1', value: undefined, expected: 'a number 0..99' },
    })
    await dom0.write('/d/ring-ref1', '007')
    await expect(rings.readFamily(dom0, '/d', 'ring-ref{n}', 2)).rejects.toThrow(
      'node "/d/ring-ref1" holds "007", expected a number 0..99',
    )
    expect(() => rings.format({ 'ring-ref{n}': [8, 100] })).toThrow(
      '"ring-ref1" expected a number 0..99, got "100"',
    )
  })
})

test('a missing node without default is an error, and so is text with control characters', async () => {
  await expect(nodes.read(dom0, '/d')).rejects.toThrow(
    'node "/d/sectors" is missing, expected a number',
  )
  await dom0.write('/d/sectors', `1\n${'x'.repeat(2000)}`)
  const error: unknown = await nodes.read(dom0, '/d').catch((caught: unknown) => caught)
  expect(error).toBeInstanceOf(NegotiationError)
  expect(String(error)).toMatch(/holds "1\\nx{62}", expected/)
})

test("a value outside its type is the caller's fault, and nothing is written", async () => {
  for (const values of [
    { sectors: -1 },
    { sectors: 1.5 },
    { sectors: 2 ** 53 },
    { 'ring-page-order': 5 },
    { dev: 'a long name' },
  ]) {
    await expect(
      nodes.write(dom0, '/d', { protocol: 'x86_32-abi', ...values }),
    ).rejects.toBeInstanceOf(RangeError)
  }
  expect(() => nodes.format({ sectors: -1 })).toThrow(
    '"sectors" expected a number 0..9007199254740991, got "-1"',
  )
  expect(await dom0.exists('/d')).toBe(false)
})

describe('strict numbers', () => {
  test('every number in the range is accepted, and no other', () => {
    fc.assert(
      fc.property(fc.maxSafeNat(), fc.maxSafeNat(), (value, max) => {
        expect(parseDecimal(String(value), { max })).toBe(value <= max ? value : undefined)
        expect(parseDecimal(String(value), { min: max, max: Number.MAX_SAFE_INTEGER })).toBe(
          value >= max ? value : undefined,
        )
      }),
    )
  })

  test('other text is not a number', () => {
    fc.assert(
      fc.property(fc.string(), (text) => {
        expect(parseDecimal(text, { max: 100 })).toBe(
          /^(\d|[1-9]\d|100)$/.test(text) ? Number(text) : undefined,
        )
      }),
    )
  })

  test.each([
    '',
    ' 1',
    '1 ',
    '1\n',
    '+1',
    '-0',
    '01',
    '00',
    '0x1',
    '1e1',
    '1.0',
    '１',
    '9007199254740992',
    '9'.repeat(5000),
  ])('%#', (text) => {
    expect(parseDecimal(text, { max: Number.MAX_SAFE_INTEGER })).toBeUndefined()
  })

  test('flags', () => {
    expect(['0', '1', '', '2', 'true', '01', '1\n'].map(parseFlag)).toEqual([
      false,
      true,
      undefined,
      undefined,
      undefined,
      undefined,
      undefined,
    ])
  })
})
