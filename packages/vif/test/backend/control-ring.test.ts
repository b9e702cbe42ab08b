/** What a guest configures by its control ring, and what it can't do with it. */
import { Frames } from '@xenkit/frames'
import { XEN_NETIF_CTRL_STATUS as S, XEN_NETIF_CTRL_TYPE as T } from '@xenkit/wire'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { ControlRig } from '../support/control-rig.ts'

const PAGE = 4096
const ALL_TYPES = 15

/** A frame of TCP over IPv4 whose addresses and ports are these bytes. */
function tcpFrame(addresses: readonly number[], ports: readonly number[]): Frames {
  const frames = new Frames(1)
  const memory = new Uint8Array(60)
  memory.set([0x08, 0, 0x45, 0, 0, 46, 0, 0, 0, 0, 64, 6], 12)
  memory.set(addresses, 26)
  memory.set(ports, 34)
  memory[46] = 0x50
  frames.reset(memory)
  frames.add({ start: 0, length: 60 })
  return frames
}

/** The hash as netif.h says: the key shifts left by a bit for each bit of the input. */
function toeplitz(key: Uint8Array, input: readonly number[]): number {
  let shifted = BigInt(`0x${Buffer.from(key).toString('hex')}00000000`)
  const bits = 8 * (key.length + 4)
  let hash = 0n
  for (const bit of input.flatMap((byte) => [...byte.toString(2).padStart(8, '0')])) {
    if (bit === '1') hash ^= shifted >> BigInt(bits - 32)
    shifted = BigInt.asUintN(bits, shifted << 1n)
  }
  return Number(hash)
}

/** What netback would answer, and the state that the guest's requests lead to. */
class Model {
  toeplitz = false
  types = 0
  key = new Uint8Array(40)
  mapping: number[] = []
  readonly queues: number

  constructor(queues: number) {
    this.queues = queues
  }

  ask(type: number, data: readonly number[], page: Uint8Array, hasPage: boolean): [number, number] {
    const [a = 0, b = 0, c = 0] = data
    const invalid: [number, number] = [S.INVALID_PARAMETER, 0]
    const done: [number, number] = [S.SUCCESS, 0]
    switch (type) {
      case T.GET_HASH_FLAGS:
        return this.toeplitz ? [S.SUCCESS, ALL_TYPES] : [S.NOT_SUPPORTED, 0]
      case T.SET_HASH_FLAGS:
        if (a > ALL_TYPES || !this.toeplitz) return invalid
        this.types = a
        return done
      case T.SET_HASH_KEY:
        if (b > 40 || (b > 0 && !hasPage)) return invalid
        this.key = new Uint8Array(40)
        this.key.set(page.subarray(0, b))
        return done
      case T.GET_HASH_MAPPING_SIZE:
        return [S.SUCCESS, 128]
      case T.SET_HASH_MAPPING_SIZE:
        if (a > 128) return invalid
        this.mapping = Array<number>(a).fill(0)
        return done
      case T.SET_HASH_MAPPING: {
        if (b + c > this.mapping.length || (b > 0 && !hasPage)) return invalid
        const view = new DataView(page.buffer, page.byteOffset, PAGE)
        const entries = Array.from({ length: b }, (_, i) => view.getUint32(4 * i, true))
        if (entries.some((queue) => queue >= this.queues)) return invalid
        this.mapping.splice(c, b, ...entries)
        return done
      }
      case T.SET_HASH_ALGORITHM:
        if (a > 1) return invalid
        this.toeplitz = a === 1
        return done
      default:
        return [S.NOT_SUPPORTED, 0]
    }
  }
}

const word = fc.oneof(
  fc.nat(3),
  fc.nat(130),
  fc.constantFrom(40, 41, 0xffff_ffff, 0xffff_ff80),
  fc.nat(),
)
const requests = fc.record({
  type: fc.oneof(fc.integer({ min: 0, max: 7 }), fc.integer({ min: 11, max: 0xffff })),
  data: fc.tuple(word, word, word),
  /** Which page the request's first word names, if its type says that it is a page. */
  hasPage: fc.boolean(),
  /** Most entries are queues, sometimes all. */
  entries: fc.array(
    fc.oneof({ weight: 20, arbitrary: fc.nat(3) }, { weight: 1, arbitrary: word }),
    {
      minLength: 20,
      maxLength: 20,
    },
  ),
})
/** Half of the guests configure a hash first: the rest seldom gets that far. */
const none = { hasPage: true, entries: [0] }
const beginnings = fc.constantFrom(
  [],
  [
    { type: T.SET_HASH_ALGORITHM, data: [1, 0, 0], ...none },
    { type: T.SET_HASH_FLAGS, data: [ALL_TYPES, 0, 0], ...none },
    { type: T.SET_HASH_MAPPING_SIZE, data: [3, 0, 0], ...none },
  ],
)
const NAMES_PAGE: readonly number[] = [T.SET_HASH_KEY, T.SET_HASH_MAPPING]

/** Repeats the entries all over the guest's page. */
function fillPage({ page }: ControlRig, entries: readonly number[]): void {
  const view = new DataView(page.bytes.buffer, page.bytes.byteOffset, PAGE)
  for (let i = 0; i < PAGE / 4; i++) {
    view.setUint32(4 * i, entries[i % entries.length] ?? 0, true)
  }
}

describe('the hash', () => {
  test('whatever the guest asks, the answers and the queues are netback’s', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.tuple(beginnings, fc.array(requests, { maxLength: 40 })).map((parts) => parts.flat()),
        fc.integer({ min: 1, max: 4 }),
        fc.array(fc.nat(255), { minLength: 12, maxLength: 12 }),
        async (all, queues, flow) => {
          await using r = await ControlRig.open({ queues })
          const model = new Model(queues)
          for (const { type, data, hasPage, entries } of all) {
            fillPage(r, entries)
            const words = [...data]
            if (NAMES_PAGE.includes(type)) words[0] = hasPage ? r.pageRef : 0xffff
            const [status, value] = model.ask(type, words, r.page.bytes, hasPage)
            expect(r.ask(type, ...words)).toEqual({ status, data: value })
          }
          const frames = tcpFrame(flow.slice(0, 8), flow.slice(8))
          const queue = r.back.hash.queueOf(frames, 0)
          const { types, mapping, key } = model
          const type = types & 2 || types & 1
          expect(queue).toBeLessThan(queues)
          if (!model.toeplitz || types === 0) {
            expect(r.back.hash.type).toBe(0)
            return
          }
          const value = type === 0 ? 0 : toeplitz(key, type === 2 ? flow : flow.slice(0, 8))
          const chosen = mapping.length > 0 ? mapping[value % mapping.length] : value % queues
          expect([queue, r.back.hash.type]).toEqual([chosen, type])
          if (type !== 0) expect(r.back.hash.value).toBe(value)
          expect(r.failures).toEqual([])
        },
      ),
    )
  })

  test('a mapping is set as a whole, or not at all', async () => {
    await using r = await ControlRig.open({ queues: 2 })
    r.ask(T.SET_HASH_ALGORITHM, 1)
    r.ask(T.SET_HASH_FLAGS, ALL_TYPES)
    expect(r.ask(T.SET_HASH_MAPPING_SIZE, 129).status).toBe(S.INVALID_PARAMETER)
    expect(r.ask(T.SET_HASH_MAPPING_SIZE, 128).status).toBe(S.SUCCESS)
    r.ask(T.SET_HASH_MAPPING_SIZE, 1)
    fillPage(r, [1])
    expect(r.ask(T.SET_HASH_MAPPING, r.pageRef, 1, 0).status).toBe(S.SUCCESS)
    const frames = tcpFrame([1, 2, 3, 4, 5, 6, 7, 8], [9, 10, 11, 12])
    expect(r.back.hash.queueOf(frames, 0)).toBe(1)
    // XSA-270: offset and length whose sum is small again in 32 bits.
    expect(r.ask(T.SET_HASH_MAPPING, r.pageRef, 2, 0xffff_ffff).status).toBe(S.INVALID_PARAMETER)
    expect(r.ask(T.SET_HASH_MAPPING, r.pageRef, 0xffff_ffff, 2).status).toBe(S.INVALID_PARAMETER)
    r.ask(T.SET_HASH_MAPPING_SIZE, 2)
    fillPage(r, [1, 2])
    expect(r.ask(T.SET_HASH_MAPPING, r.pageRef, 2, 0).status).toBe(S.INVALID_PARAMETER)
    expect(r.back.hash.queueOf(frames, 0)).toBe(0)
  })

  test('without a configured hash, flows are spread over all queues, each on one', async () => {
    await using r = await ControlRig.open({ queues: 4 })
    const flows = Array.from({ length: 64 }, (_, i) =>
      tcpFrame([10, 0, 0, 1, 10, 0, 0, 2], [i, 7, 0, 80]),
    )
    const queues = flows.map((frames) => r.back.hash.queueOf(frames, 0))
    expect(new Set(queues)).toEqual(new Set([0, 1, 2, 3]))
    expect(flows.map((frames) => r.back.hash.queueOf(frames, 0))).toEqual(queues)
    expect(r.back.hash.type).toBe(0)
  })
})
