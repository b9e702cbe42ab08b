/** Slots in any order and with any contents, against a model of netback's rules. */
import { RingProtocolError } from '@xenkit/hypervisor'
import { NETTXF, netif } from '@xenkit/wire'
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { type ModelPart, netback } from '../support/tx-model.ts'
import { TxRig } from '../support/tx-rig.ts'

const { more_data, extra_info, csum_blank, data_validated } = NETTXF

/** A page whose reference was never granted. */
const NO_PAGE = 99

interface Part {
  readonly page: number
  readonly offset: number
  readonly flags: number
  readonly id: number
  readonly size: number
}

const slotOf = (rig: TxRig, { page, ...rest }: Part): Uint8Array => {
  const slot = new Uint8Array(netif.tx.slotSize)
  netif.tx.request.encode({ gref: page === NO_PAGE ? 0xffff : rig.gref(page), ...rest }, slot)
  return slot
}

const bytesOf = (rig: TxRig, parts: readonly ModelPart[]): Uint8Array =>
  Buffer.concat(
    parts.map(({ gref, offset, size }) =>
      rig.page(rig.data.grefs.indexOf(gref)).subarray(offset, offset + size),
    ),
  )

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex')

/** Puts the slots, serves the ring and compares with the model. @returns whether it goes on */
function compare(rig: TxRig, slots: readonly Uint8Array[]): boolean {
  rig.frames.length = 0
  for (const slot of slots) rig.putRaw(slot)
  rig.turn()
  const expected = netback(slots, [...rig.data.grefs])
  expect(rig.frames.map(({ bytes }) => hex(bytes))).toEqual(
    expected.frames.map((parts) => hex(bytesOf(rig, parts))),
  )
  const answers = rig.answers()
  if (expected.broken) {
    // What was answered before is right.
    expect(answers).toEqual(expected.answers.slice(0, answers.length))
    expect(rig.failures).toHaveLength(1)
    expect(rig.failures[0]).toBeInstanceOf(RingProtocolError)
    return false
  }
  expect(answers).toEqual(expected.answers)
  expect(rig.failures).toEqual([])
  return true
}

/** As `compare`, for many packets that don't break the ring, as many as it holds at a time. */
function compareAll(rig: TxRig, packets: readonly (readonly Part[])[]): void {
  const slots = packets.map((parts) => parts.map((part) => slotOf(rig, part)))
  for (let rest = slots; rest.length > 0;) {
    let count = 0
    for (let free = 256; free >= (rest[count]?.length ?? Infinity); count++) {
      free -= rest[count]?.length ?? 0
    }
    expect(compare(rig, rest.slice(0, count).flat())).toBe(true)
    rest = rest.slice(count)
  }
}

test('packets of 1 to 21 slots, with parts of 0 to 128 bytes each', async () => {
  await using rig = await TxRig.open()
  for (let slots = 1; slots <= 21; slots++) {
    const packets = Array.from({ length: 129 }, (_, size) =>
      Array.from({ length: slots }, (_, i) => ({
        page: i % 24,
        offset: i * 128,
        flags: i + 1 < slots ? more_data : 0,
        id: i,
        size: i === 0 ? size * slots : size,
      })),
    )
    compareAll(rig, packets)
  }
  // 19 slots are sent if they have an Ethernet header's bytes; 20 and 21 are not (netback).
  const sizes = (slots: number): number => 129 - Math.ceil(14 / slots)
  const sent = Array.from({ length: 19 }, (_, i) => sizes(i + 1)).reduce((sum, n) => sum + n, 0)
  expect(rig.counters.stats.framesSent).toBe(sent)
  expect(rig.counters.stats.sendErrors).toBe(21 * 129 - sent)
})

test('22 slots close the card', async () => {
  await using rig = await TxRig.open()
  const parts = Array.from({ length: 22 }, (_, i) => ({
    page: 0,
    offset: 0,
    flags: i < 21 ? more_data : 0,
    id: i,
    size: i === 0 ? 220 : 10,
  }))
  const slots = parts.map((part) => slotOf(rig, part))
  expect(compare(rig, slots)).toBe(false)
})

/** Ways to divide a packet's bytes among its parts. */
const divisions: Record<string, (size: number, slots: number) => number[]> = {
  'all bytes first': (size, slots) => [size, ...Array.from({ length: slots - 1 }, () => 0)],
  'all bytes last': (size, slots) => [...Array.from({ length: slots - 1 }, () => 0), size],
  'all bytes in the middle': (size, slots) =>
    Array.from({ length: slots }, (_, i) => (i === slots >> 1 ? size : 0)),
  evenly: (size, slots) =>
    Array.from(
      { length: slots },
      (_, i) => Math.floor(((i + 1) * size) / slots) - Math.floor((i * size) / slots),
    ),
}

// XSA-432: netback overran its buffer for some of these. XSA-448: it failed for parts of 0 bytes.
test.each(Object.keys(divisions))(
  'packets of 14 to 128 bytes in 1 to 18 slots, %s',
  async (name) => {
    await using rig = await TxRig.open()
    for (let slots = 1; slots <= 18; slots++) {
      const packets = Array.from({ length: 115 }, (_, more) =>
        (divisions[name]?.(14 + more, slots) ?? []).map((bytes, i) => ({
          page: i,
          offset: 4096 - 128 - i,
          flags: i + 1 < slots ? more_data : 0,
          id: 1000 + i,
          size: i === 0 ? 14 + more : bytes,
        })),
      )
      compareAll(rig, packets)
    }
    expect(rig.counters.stats.framesSent).toBe(18 * 115)
  },
)

const flags = fc
  .uniqueArray(fc.constantFrom(csum_blank, data_validated), { maxLength: 2 })
  .map((bits) => bits.reduce((all, bit) => all | bit, 0))

/** Places within a page: most of them are allowed. */
const placeArbitrary = fc.oneof(
  {
    weight: 60,
    arbitrary: fc.record({ offset: fc.nat(3_900), size: fc.oneof(fc.nat(128), fc.nat(16)) }),
  },
  { weight: 10, arbitrary: fc.constant({ offset: 0, size: 4096 }) },
  { weight: 1, arbitrary: fc.record({ offset: fc.nat(4_200), size: fc.nat(200) }) },
  { weight: 1, arbitrary: fc.record({ offset: fc.nat(0xffff), size: fc.nat(0xffff) }) },
)

const partArbitrary = fc
  .record({
    page: fc.oneof(
      { weight: 50, arbitrary: fc.nat(7) },
      { weight: 1, arbitrary: fc.constant(NO_PAGE) },
    ),
    place: placeArbitrary,
    flags: fc.oneof({ weight: 20, arbitrary: fc.constant(0) }, { weight: 1, arbitrary: flags }),
    id: fc.nat(0xffff),
  })
  .map(({ place, ...part }) => ({ ...part, ...place }))

const extraArbitrary = fc
  .record({
    type: fc.oneof(
      { weight: 40, arbitrary: fc.integer({ min: 1, max: 5 }) },
      { weight: 1, arbitrary: fc.constantFrom(0, 6, 255) },
    ),
    flags: fc.constantFrom(0, 0, 2, 0xfe),
    u: fc.oneof(
      {
        weight: 20,
        arbitrary: fc.constantFrom([0x78, 5, 1, 0, 0, 0], [0x78, 5, 2, 0, 0, 0]),
      },
      { weight: 1, arbitrary: fc.constantFrom([0, 0, 1, 0, 0, 0], [9, 9, 0, 0, 0, 0]) },
      { weight: 1, arbitrary: fc.array(fc.nat(255), { minLength: 6, maxLength: 6 }) },
    ),
  })
  .map(({ type, flags: bits, u }) => Uint8Array.from([type, bits, ...u, 9, 9, 9, 9]))

/** A packet whose sizes and flags are right, except where the arbitrary parts aren't. */
const packetArbitrary = fc
  .record({
    parts: fc.array(partArbitrary, { minLength: 1, maxLength: 21, size: 'medium' }),
    extras: fc.array(extraArbitrary, { maxLength: 4, size: '-1' }),
    /** Added to the right total. */
    excess: fc.oneof(
      { weight: 20, arbitrary: fc.constant(0) },
      { weight: 1, arbitrary: fc.integer({ min: -200, max: 200 }) },
    ),
    /** The packet ends before its last part says so. */
    cut: fc.oneof({ weight: 99, arbitrary: fc.constant(0) }, { weight: 1, arbitrary: fc.nat(3) }),
  })
  .map(({ parts, extras, excess, cut }) => (rig: TxRig): Uint8Array[] => {
    const total = parts.reduce((sum, { size }) => sum + size, 0) + excess
    const slots = parts.map((part, i) => {
      const more = i + 1 < parts.length ? more_data : 0
      if (i > 0) return slotOf(rig, { ...part, flags: part.flags | more })
      const bits = part.flags | more | (extras.length > 0 ? extra_info : 0)
      return slotOf(rig, { ...part, flags: bits, size: total & 0xffff })
    })
    const infos = extras.map((extra, i) => {
      const info = extra.slice()
      info[1] = ((info[1] ?? 0) & 0xfe) | (i + 1 < extras.length ? 1 : 0)
      return info
    })
    const [first = new Uint8Array(12), ...others] = slots
    const all = [first, ...infos, ...others]
    return all.slice(0, all.length - cut)
  })

const garbageArbitrary = fc.uint8Array({ minLength: 12, maxLength: 12 }).map((slot) => () => [slot])

test('any sequence of slots, as netback takes it', { timeout: 120_000 }, async () => {
  let sent = 0
  let refused = 0
  let broken = 0
  await fc.assert(
    fc.asyncProperty(
      fc.array(
        fc.array(
          fc.oneof(
            { weight: 40, arbitrary: packetArbitrary },
            { weight: 1, arbitrary: garbageArbitrary },
          ),
          { minLength: 1, maxLength: 11 },
        ),
        { minLength: 1, maxLength: 3 },
      ),
      async (rounds) => {
        await using rig = await TxRig.open()
        for (const round of rounds) {
          const slots = round.flatMap((packet) => packet(rig))
          if (slots.length > 256) break
          const goesOn = compare(rig, slots)
          sent += rig.frames.length
          if (goesOn) continue
          broken++
          break
        }
        refused += rig.counters.stats.sendErrors
      },
    ),
    { numRuns: 300 },
  )
  // Slots of each kind were among them.
  expect(Math.min(sent / 5, refused, broken)).toBeGreaterThan(20)
})
