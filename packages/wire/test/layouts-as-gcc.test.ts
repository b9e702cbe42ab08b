/**
 * Property: random nested structs and unions have the sizes and offsets that gcc gives them, in
 * every ABI, if each hole is declared as a padding field.
 */
import * as fc from 'fast-check'
import { expect, test } from 'vitest'
import * as wire from '../src/index.ts'
import type { Abi, CType } from '../src/index.ts'
import { ABIS, goldenRecords, whyNoRecords } from './golden-records.ts'

const { i8, u8, i16, u16, i32, u32 } = wire
const narrow = { int8_t: i8, uint8_t: u8, int16_t: i16, uint16_t: u16, int32_t: i32, uint32_t: u32 }
const integers = (abi: Abi) => ({
  ...narrow,
  int64_t: abi === 'x86_32' ? wire.i64Align4 : wire.i64,
  uint64_t: abi === 'x86_32' ? wire.u64Align4 : wire.u64,
})
type Integer = keyof ReturnType<typeof integers>

type Layout =
  | { readonly kind: 'integer'; readonly name: Integer }
  | { readonly kind: 'array'; readonly of: Layout; readonly length: number }
  | { readonly kind: 'struct' | 'union'; readonly members: readonly Layout[] }

const { layout } = fc.letrec<{ layout: Layout; integer: Layout }>((tie) => ({
  layout: fc.oneof(
    { depthSize: 'small', withCrossShrink: true },
    tie('integer'),
    fc.record({
      kind: fc.constant('array'),
      of: tie('layout'),
      length: fc.integer({ min: 1, max: 5 }),
    }),
    fc.record({
      kind: fc.constantFrom('struct', 'union'),
      members: fc.array(tie('layout'), { minLength: 1, maxLength: 5 }),
    }),
  ),
  integer: fc.record({
    kind: fc.constant('integer'),
    name: fc.constantFrom(...(Object.keys(integers('arm')) as Integer[])),
  }),
}))

/** Returns the C declaration of a field with this layout. */
function declaration(of: Layout, name: string): string {
  if (of.kind === 'integer') return `${of.name} ${name};`
  if (of.kind === 'array') return declaration(of.of, `${name}[${of.length}]`)
  return `${of.kind} { ${of.members.map((member, i) => declaration(member, `m${i}`)).join(' ')} } ${name};`
}

/** Returns the schema of this layout, with every hole as a field. */
function schema(of: Layout, abi: Abi): CType {
  if (of.kind === 'integer') return integers(abi)[of.name]
  if (of.kind === 'array') return wire.array(schema(of.of, abi), of.length)
  const members = of.members.map((member, i) => [`m${i}`, schema(member, abi)] as const)
  return of.kind === 'union' ? wire.cunion('u', Object.fromEntries(members)) : padded(members)
}

function padded(members: readonly (readonly [name: string, type: CType])[]) {
  const fields: [string, CType][] = []
  let [size, align] = [0, 1]
  const pad = (to: number): void => {
    const hole = (to - (size % to)) % to
    if (hole > 0) fields.push([`_pad${fields.length}`, wire.padding(hole)])
    size += hole
  }
  for (const [name, type] of members) {
    pad(wire.alignOf(type))
    fields.push([name, type])
    size += wire.sizeOf(type)
    align = Math.max(align, wire.alignOf(type))
  }
  pad(align)
  return wire.cstruct('s', Object.fromEntries(fields))
}

/** Returns C source that defines records of the sizes and offsets of all layouts. */
function source(layouts: readonly Layout[]): string {
  const types = Object.keys(integers('arm')).map((name) => {
    const [, sign, bits] = /(u?int)(\d+)_t/.exec(name) ?? []
    return `typedef __${sign?.toUpperCase()}${bits}_TYPE__ ${name};`
  })
  const structs = layouts.map(
    (of, i) => `struct s${i} { uint8_t first; ${declaration(of, 'it')} };`,
  )
  const records = layouts.map(
    (_, i) =>
      `{ "golden sizeof ${i}", sizeof(struct s${i}) }, ` +
      `{ "golden offset ${i}", __builtin_offsetof(struct s${i}, it) },`,
  )
  return [
    ...types,
    ...structs,
    'const struct { char name[64]; int32_t value; } golden[] = {',
    ...records,
    '};',
  ].join('\n')
}

test.for(ABIS)('$abi $flags.0', ({ abi, flags }, { skip }) => {
  const reason = whyNoRecords()
  if (reason) skip(reason)
  fc.assert(
    fc.property(fc.array(layout, { minLength: 60, maxLength: 60 }), (layouts) => {
      const ours = layouts.flatMap((of, i): [string, number][] => {
        const struct = padded([
          ['first', u8],
          ['it', schema(of, abi)],
        ])
        return [
          [`sizeof ${i}`, struct.size],
          [`offset ${i}`, struct.at['it'] ?? NaN],
        ]
      })
      expect(new Map(ours)).toEqual(goldenRecords(source(layouts), flags))
    }),
    // Each run starts the compiler, and so does each step that shrinks a failing example.
    { numRuns: 2 },
  )
})
